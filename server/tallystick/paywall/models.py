"""Answers that are kept for copies of a request, and catalogs that offers came from."""

from enum import StrEnum

from sqlalchemy import Index, text
from sqlmodel import Field, SQLModel

from tallystick.kernel.tables import big_column, bytes_column, one_of


class AnswerState(StrEnum):
    """How far the first request with this key has come."""

    RUNNING = "running"
    DONE = "done"
    NOT_KEPT = "not_kept"
    """Finished and charged, but streamed or larger than what is kept."""
    CHARGED = "charged"
    """The answer is the receipt of a charge, and is told from the books."""
    TOPUP = "topup"
    """The answer is what became of the claim's top-up."""


class StoredAnswer(SQLModel, table=True):
    """The first answer to a waived payment or an Idempotency-Key.

    ``key`` stands for who asked with which nonce or key, ``fingerprint`` for what was
    asked. ``claim_id`` is the claim of the payment that the first request brought, if
    that was to be settled. ``owner`` is an id of the request that answers, or that of
    the charge where the answer tells of one and of nothing else. Such rows are the many:
    no index but their key costs them a page.
    """

    __tablename__ = "stored_answer"
    __table_args__ = (
        one_of("state", AnswerState),
        Index(
            "ix_stored_answer_expires_at_ms",
            "expires_at_ms",
            sqlite_where=text("state <> 'charged'"),
            postgresql_where=text("state <> 'charged'"),
        ),
        {"sqlite_with_rowid": False},
    )

    key: bytes = Field(sa_column=bytes_column(size=16, primary_key=True))
    fingerprint: bytes = Field(sa_column=bytes_column(size=16))
    state: str
    claim_id: int | None = Field(default=None, sa_column=big_column(nullable=True))
    http_status: int | None = None
    headers: str | None = None
    body: bytes | None = Field(
        default=None, sa_column=bytes_column(size=65536, nullable=True)
    )
    expires_at_ms: int = Field(sa_column=big_column())
    owner: int = Field(sa_column=big_column())


class OfferedCatalog(SQLModel, table=True):
    """A catalog that offers are or were made from; ``document`` is its JSON."""

    __tablename__ = "offered_catalog"

    version: str = Field(primary_key=True)
    document: str
    last_offered_ms: int = Field(sa_column=big_column())
