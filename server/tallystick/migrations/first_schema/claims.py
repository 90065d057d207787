"""The payment authorizations that were presented."""

from tallystick.migrations.columns import big, blob, index, table, text


def _claim() -> None:
    table(
        "claim",
        big("id"),
        big("chain_id"),
        blob("token", 20),
        blob("payer", 20),
        blob("nonce", 32),
        big("value"),
        big("valid_after"),
        big("valid_before"),
        blob("binding", 16),
        big("customer_id"),
        text("state"),
        big("charge"),
        text("feature"),
        big("hold_id", null=True),
        big("waiting_until_ms"),
        big("claimed_at_ms"),
        checks={
            "state": "state IN ('claimed', 'waived', 'overtaken', 'settling')",
            "value": "value > 0",
        },
        refers={"customer_id": "customer.id"},
        unique={"money": ("chain_id", "token", "payer", "nonce")},
    )
    index("ix_claim_customer_id", "claim", ["customer_id"])
    unsettled = "state IN ('waived', 'claimed')"
    index("ix_claim_unsettled_valid_before", "claim", ["valid_before"], where=unsettled)


TABLES = {"claim": _claim}
