"""What customers were given, and what is set aside."""

from tallystick.migrations.columns import big, index, table, text


def _credit_grant() -> None:
    table(
        "credit_grant",
        big("id"),
        big("customer_id"),
        text("category"),
        big("amount"),
        big("cost_amount", null=True),
        text("cost_asset", null=True),
        big("ledger_transaction_id"),
        big("granted_at_ms"),
        checks={
            "category": "category IN ('paid', 'trial', 'promotional', 'plan')",
            "cost_has_asset": "(cost_amount IS NULL) = (cost_asset IS NULL)",
            "amount": "amount > 0",
        },
        refers={"ledger_transaction_id": "ledger_transaction.id"},
        unique={"ledger_transaction_id": ("ledger_transaction_id",)},
    )
    index("ix_credit_grant_customer_id", "credit_grant", ["customer_id"])


def _hold() -> None:
    table(
        "hold",
        big("id"),
        big("customer_id"),
        text("feature"),
        big("amount"),
        big("captured"),
        text("state"),
        big("placed_at_ms"),
        big("expires_at_ms"),
        big("settled_at_ms", null=True),
        checks={
            "state": "state IN ('open', 'captured', 'released', 'expired')",
            "amount": "amount > 0",
            "captured_within_amount": "captured >= 0 AND captured <= amount",
        },
    )
    is_open = "state = 'open'"
    of_customer = ["customer_id", "expires_at_ms"]
    index("ix_hold_open_customer", "hold", of_customer, where=is_open)
    index("ix_hold_open_expires_at", "hold", ["expires_at_ms"], where=is_open)


TABLES = {"credit_grant": _credit_grant, "hold": _hold}
