"""What was used."""

from tallystick.migrations.columns import big, index, table, text


def _usage_event() -> None:
    table(
        "usage_event",
        big("id"),
        big("customer_id"),
        text("feature"),
        big("quantity"),
        big("credits"),
        text("catalog_version"),
        big("ledger_transaction_id"),
        big("occurred_at_ms"),
        refers={
            "customer_id": "customer.id",
            "ledger_transaction_id": "ledger_transaction.id",
        },
        unique={"ledger_transaction_id": ("ledger_transaction_id",)},
    )
    index("ix_usage_event_customer_id", "usage_event", ["customer_id"])


TABLES = {"usage_event": _usage_event}
