"""Answers that are kept."""

from tallystick.migrations.columns import big, blob, index, small, table, text


def _stored_answer() -> None:
    table(
        "stored_answer",
        big("id"),
        blob("key", 16),
        blob("fingerprint", 16),
        text("state"),
        big("claim_id", null=True),
        small("http_status", null=True),
        text("headers", null=True),
        blob("body", 65536, null=True),
        big("expires_at_ms"),
        checks={"state": "state IN ('running', 'done', 'not_kept', 'topup')"},
        unique={"key": ("key",)},
    )
    index("ix_stored_answer_expires_at_ms", "stored_answer", ["expires_at_ms"])


TABLES = {"stored_answer": _stored_answer}
