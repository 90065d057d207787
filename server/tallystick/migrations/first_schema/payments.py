"""Top-ups, what was sent for them, and what the chain showed."""

from typing import Any

import sqlalchemy as sa

from tallystick.migrations.columns import big, blob, flag, index, small, table, text

_STATES = (
    "'claimed', 'signed', 'watch', 'rejected', 'expired', 'canceled', 'credited',"
    " 'safe', 'final', 'reversed', 'quarantine'"
)


def _topup() -> None:
    table(
        "topup",
        big("id"),
        big("claim_id"),
        big("customer_id"),
        *_topup_authorization(),
        big("credits"),
        big("bonus"),
        text("catalog_version"),
        text("purpose"),
        text("state"),
        small("generation"),
        flag("in_flight"),
        text("reason", null=True),
        *_topup_evidence(),
        big("created_at_ms"),
        big("next_look_at_ms"),
        checks={
            "state": f"state IN ({_STATES})",
            "credit_has_anchor": "state NOT IN ('credited', 'safe', 'final')"
            " OR (tx_hash IS NOT NULL AND block_hash IS NOT NULL)",
            "credits": "credits >= 0",
            "value": "value > 0",
        },
        refers={"claim_id": "claim.id", "customer_id": "customer.id"},
        unique={"claim_id": ("claim_id",)},
    )
    _topup_indexes()


def _topup_authorization() -> list[sa.Column[Any]]:
    return [
        big("chain_id"),
        blob("token", 20),
        blob("payer", 20),
        blob("pay_to", 20),
        blob("nonce", 32),
        big("value"),
        big("valid_after"),
        big("valid_before"),
        blob("signature", 8192, null=True),
    ]


def _topup_evidence() -> list[sa.Column[Any]]:
    return [
        big("scan_from_block"),
        blob("tx_hash", 32, null=True),
        big("block_number", null=True),
        blob("block_hash", 32, null=True),
        small("log_index", null=True),
        big("balance_after", null=True),
    ]


def _topup_indexes() -> None:
    index("ix_topup_customer_id", "topup", ["customer_id"])
    is_open = "state IN ('claimed', 'signed', 'watch')"
    index("ix_topup_open", "topup", ["next_look_at_ms"], where=is_open)
    rejected = "state = 'rejected'"
    index("ix_topup_rejected_valid_before", "topup", ["valid_before"], where=rejected)
    index(
        "uq_topup_in_flight_wallet",
        "topup",
        ["chain_id", "payer"],
        where="in_flight",
        unique=True,
    )


def _relayer() -> None:
    table(
        "relayer",
        blob("address", 20),
        big("chain_id"),
        big("next_nonce"),
        key=("address", "chain_id"),
    )


def _relayed_transaction() -> None:
    table(
        "relayed_transaction",
        blob("tx_hash", 32),
        big("topup_id"),
        big("chain_id"),
        blob("relayer", 20),
        big("evm_nonce"),
        small("attempt"),
        blob("raw", 32768),
        big("signed_at_ms"),
        big("sent_at_ms"),
        key=("tx_hash",),
        refers={"topup_id": "topup.id"},
        unique={
            "chain_id_relayer_evm_nonce_attempt": (
                "chain_id",
                "relayer",
                "evm_nonce",
                "attempt",
            )
        },
    )
    index("ix_relayed_transaction_topup_id", "relayed_transaction", ["topup_id"])


def _chain_transfer() -> None:
    table(
        "chain_transfer",
        big("id"),
        big("chain_id"),
        blob("token", 20),
        big("block_number"),
        blob("block_hash", 32),
        blob("tx_hash", 32),
        small("log_index"),
        blob("sender", 20),
        blob("pay_to", 20),
        big("value"),
        blob("nonce", 32, null=True),
        big("topup_id", null=True),
        big("seen_at_ms"),
        checks={"value": "value > 0"},
        refers={"topup_id": "topup.id"},
        unique={
            "chain_id_block_hash_log_index": ("chain_id", "block_hash", "log_index"),
            "topup_id": ("topup_id",),
        },
    )
    index(
        "ix_chain_transfer_authorization",
        "chain_transfer",
        ["sender", "nonce"],
        where="nonce IS NOT NULL",
    )


def _chain_cursor() -> None:
    table(
        "chain_cursor",
        big("chain_id"),
        blob("token", 20),
        blob("pay_to", 20),
        big("first_block"),
        big("block_number"),
        blob("block_hash", 32),
        big("opening_balance"),
        key=("chain_id", "token", "pay_to"),
    )


TABLES = {
    "topup": _topup,
    "relayer": _relayer,
    "relayed_transaction": _relayed_transaction,
    "chain_transfer": _chain_transfer,
    "chain_cursor": _chain_cursor,
}
