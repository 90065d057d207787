"""Customers and their wallets."""

from tallystick.migrations.columns import big, blob, index, table


def _customer() -> None:
    table("customer", big("id"), big("created_at_ms"))


def _wallet() -> None:
    table(
        "wallet",
        blob("address", 20),
        big("customer_id"),
        big("proven_at_ms"),
        key=("address",),
        refers={"customer_id": "customer.id"},
    )
    index("ix_wallet_customer_id", "wallet", ["customer_id"])


TABLES = {"customer": _customer, "wallet": _wallet}
