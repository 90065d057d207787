"""The ledger's tables.

A transfer is double entry by construction: one debit account, one credit account, one
positive amount. Its two entries are the view ``entry`` (made in the migrations).
"""

from enum import StrEnum

from sqlalchemy import (
    CheckConstraint,
    Column,
    Index,
    LargeBinary,
    text,
)
from sqlmodel import Field, SQLModel

from tallystick.kernel.money import AMOUNT_LIMIT, ASSETS
from tallystick.kernel.tables import (
    big_column,
    bytes_column,
    id_column,
    one_of,
    reference_column,
)


class LedgerAccount(SQLModel, table=True):
    """Something that value is booked on, named by a code from ``chart.py``."""

    __tablename__ = "ledger_account"
    __table_args__ = (one_of("asset", ASSETS),)

    id: int = Field(sa_column=id_column())
    code: str = Field(unique=True)
    asset: str
    # A customer has one account with a balance row; holds are set aside on it.
    customer_id: int | None = Field(
        default=None, sa_column=big_column(nullable=True, unique=True)
    )


class AccountBalance(SQLModel, table=True):
    """What a customer's account holds, in micro-credits: credits minus debits.

    ``balance`` is what remains in the account's lots plus what is held. Until
    ``next_change_ms``, when a lot begins to count or expires, ``balance - held -
    deferred`` may be spent; from then on the lots must be asked. ``version`` numbers
    the lines of the statement, ``revision`` every change of this row: who writes it
    names the revision that he read, and the row count is the verdict.

    ``burning_lot_id`` is the lot that is spent from until ``next_change_ms``, if there is
    one; it counts since ``burning_since_ms``. What is left of it stands here, in
    ``burning_left``, and not in its own row: so a charge that it covers finds one row by
    the customer's id, and changes that (docs/decisions/0016).

    House accounts have no such row: one row written by every call costs five times
    the throughput, and their balance is a sum (docs/decisions/0004).
    """

    __tablename__ = "account_balance"
    __table_args__ = (
        CheckConstraint("balance - held - deferred >= 0", name="never_overdrawn"),
        CheckConstraint("held >= 0", name="held_not_negative"),
        CheckConstraint("deferred >= 0", name="deferred_not_negative"),
        CheckConstraint("burning_left >= 0", name="burning_not_negative"),
        # Below the limit, adding an amount cannot overflow 64 bits. SQLite would turn
        # the sum into a float without a word.
        CheckConstraint(f"balance < {AMOUNT_LIMIT}", name="balance_limit"),
        # What the sweeper looks through: only customers whose credits time changes.
        Index(
            "ix_account_balance_next_change",
            "next_change_ms",
            sqlite_where=text("next_change_ms IS NOT NULL"),
            postgresql_where=text("next_change_ms IS NOT NULL"),
        ),
    )

    ledger_account_id: int = Field(
        sa_column=reference_column(
            "ledger_account.id", primary_key=True, autoincrement=False
        )
    )
    customer_id: int = Field(sa_column=big_column(unique=True))
    balance: int = Field(sa_column=big_column())
    held: int = Field(sa_column=big_column())
    deferred: int = Field(sa_column=big_column())
    version: int = Field(sa_column=big_column())
    revision: int = Field(sa_column=big_column())
    next_change_ms: int | None = Field(
        default=None, sa_column=big_column(nullable=True)
    )
    burning_lot_id: int | None = Field(
        default=None, sa_column=big_column(nullable=True)
    )
    burning_since_ms: int | None = Field(
        default=None, sa_column=big_column(nullable=True)
    )
    burning_left: int = Field(sa_column=big_column())


class LotRow(SQLModel, table=True):
    """A lot of a customer's account (``lots.Lot``); only ``remaining`` changes.

    Written only together with the account's balance row, whose revision guards both.
    While it burns, what is left of it is told by that row, and ``remaining`` lags behind;
    the view ``lot_left`` knows.
    """

    __tablename__ = "lot"
    __table_args__ = (
        CheckConstraint("remaining >= 0 AND remaining <= amount", name="remaining"),
        CheckConstraint("is_open = (remaining > 0)", name="open_while_left"),
        CheckConstraint("NOT bought OR expires_at_ms IS NULL", name="bought_stays"),
        CheckConstraint(
            "expires_at_ms IS NULL OR expires_at_ms > effective_at_ms", name="times"
        ),
        # Its own column, because an index over ``remaining`` would be written anew by
        # every charge (PostgreSQL's heap-only updates).
        Index(
            "ix_lot_open",
            "ledger_account_id",
            sqlite_where=text("is_open"),
            postgresql_where=text("is_open"),
        ),
    )

    id: int = Field(sa_column=id_column())
    ledger_account_id: int = Field(sa_column=reference_column("ledger_account.id"))
    amount: int = Field(sa_column=big_column())
    remaining: int = Field(sa_column=big_column())
    is_open: bool
    priority: int
    bought: bool
    effective_at_ms: int = Field(sa_column=big_column())
    expires_at_ms: int | None = Field(default=None, sa_column=big_column(nullable=True))


class TransactionKind(StrEnum):
    """Why value moved."""

    TOPUP = "topup"
    """USDC arrived and became credits."""
    CHARGE = "charge"
    """Credits paid for a feature."""
    GRANT = "grant"
    """Credits were given without payment."""
    SUSPENSE = "suspense"
    """USDC arrived and has no owner yet."""
    REVERSAL = "reversal"
    """Takes back an earlier transaction, which it names, wholly or in part."""
    EXPIRY = "expiry"
    """Credits expired before anybody spent them."""
    COLLECTION = "collection"
    """Credits went towards what their customer owes."""
    WRITE_OFF = "write_off"
    """What a customer owes is not asked for any more."""
    SWEEP = "sweep"
    """USDC left the address that is paid, for the treasury."""
    PAYBACK = "payback"
    """Unused credits go back to who paid for them, as USDC."""


class LedgerTransaction(SQLModel, table=True):
    """An atomic group of transfers with the key that makes it happen only once."""

    __tablename__ = "ledger_transaction"
    __table_args__ = (
        Index(
            "ix_ledger_transaction_reverses_id",
            "reverses_id",
            sqlite_where=text("reverses_id IS NOT NULL"),
            postgresql_where=text("reverses_id IS NOT NULL"),
        ),
        # I8, one effect per key: whoever inserts it first has posted, for ever.
        Index(
            "uq_ledger_transaction_idempotency_key",
            "idempotency_key",
            unique=True,
            sqlite_where=text("idempotency_key IS NOT NULL"),
            postgresql_where=text("idempotency_key IS NOT NULL"),
        ),
    )

    id: int = Field(sa_column=id_column())
    kind: str
    # Null for a plain charge, of which a row that another room writes beside it says
    # "once", and for an expiry, of which the account's revision says it.
    idempotency_key: bytes | None = Field(
        default=None, sa_column=bytes_column(size=16, nullable=True)
    )
    input_hash: bytes | None = Field(
        default=None, sa_column=bytes_column(size=16, nullable=True)
    )
    # What it belongs to, for joins; and what it was, for the customer's eyes.
    reference: str
    memo: str
    reverses_id: int | None = Field(
        default=None,
        sa_column=reference_column("ledger_transaction.id", nullable=True),
    )
    occurred_at_ms: int = Field(sa_column=big_column())
    posted_at_ms: int = Field(sa_column=big_column())


class Reversed(SQLModel, table=True):
    """How much of a transaction was taken back, in the asset's atomic units (I12).

    ``amount`` is what the transaction moved. A reversal adds to ``reversed`` in one
    conditional UPDATE, so several at once never take back more.
    """

    __tablename__ = "reversed"
    __table_args__ = (
        CheckConstraint("reversed >= 0 AND reversed <= amount", name="reversed"),
    )

    ledger_transaction_id: int = Field(
        sa_column=reference_column(
            "ledger_transaction.id", primary_key=True, autoincrement=False
        )
    )
    asset: str = Field(primary_key=True)
    amount: int = Field(sa_column=big_column())
    reversed: int = Field(sa_column=big_column())


class TransferRow(SQLModel, table=True):
    """One movement of one asset, in its atomic units: a transaction's next.

    ``*_balance_after`` and ``*_version`` are set on the side that has a balance row.
    Versions of an account rise by one without gaps, so a line that was removed or
    slipped in later shows.

    A customer's side also names the lots that it took from or gave to: ``lot_id`` if
    one did it all, else ``lots`` (``lots.pack``). The view ``lot_entry`` reads both.

    It refers to rows by their ids alone: three foreign keys would be three look-ups
    more for every charge. Nothing deletes accounts, nobody can delete transactions, and the
    audit follows the ids (I3).
    """

    __tablename__ = "transfer"
    __table_args__ = (
        CheckConstraint(f"amount > 0 AND amount < {AMOUNT_LIMIT}", name="amount"),
        CheckConstraint("debit_account_id <> credit_account_id", name="two_accounts"),
        Index(
            "uq_transfer_debit_version",
            "debit_account_id",
            "debit_version",
            unique=True,
            sqlite_where=text("debit_version IS NOT NULL"),
            postgresql_where=text("debit_version IS NOT NULL"),
        ),
        Index(
            "uq_transfer_credit_version",
            "credit_account_id",
            "credit_version",
            unique=True,
            sqlite_where=text("credit_version IS NOT NULL"),
            postgresql_where=text("credit_version IS NOT NULL"),
        ),
        {"sqlite_with_rowid": False},
    )

    ledger_transaction_id: int = Field(
        sa_column=big_column(primary_key=True, autoincrement=False)
    )
    position: int = Field(primary_key=True)
    debit_account_id: int = Field(sa_column=big_column())
    credit_account_id: int = Field(sa_column=big_column())
    amount: int = Field(sa_column=big_column())
    debit_balance_after: int | None = Field(
        default=None, sa_column=big_column(nullable=True)
    )
    debit_version: int | None = Field(default=None, sa_column=big_column(nullable=True))
    credit_balance_after: int | None = Field(
        default=None, sa_column=big_column(nullable=True)
    )
    credit_version: int | None = Field(
        default=None, sa_column=big_column(nullable=True)
    )
    lot_id: int | None = Field(default=None, sa_column=big_column(nullable=True))
    lots: str | None = None


class JournalSeal(SQLModel, table=True):
    """A link of the hash chain over the journal (``links.Link``).

    It holds the ids of the transactions that it seals, ascending, eight bytes each, and
    a digest of each, 16 bytes: 24 bytes for a transaction. ``first_id`` and ``last_id``
    are the ends of the ids. ``format`` says what was hashed; the first has none.
    """

    __tablename__ = "journal_seal"
    # What was sealed lately is looked for by each round, and the audit goes this way.
    __table_args__ = (Index("ix_journal_seal_last_id", "last_id"),)

    number: int = Field(sa_column=id_column())
    first_id: int = Field(sa_column=big_column())
    last_id: int = Field(sa_column=big_column())
    sealed_at_ms: int = Field(sa_column=big_column())
    previous: bytes = Field(sa_column=bytes_column(size=32))
    digest: bytes = Field(sa_column=bytes_column(size=32))
    transaction_ids: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    digests: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    format: int | None = None
