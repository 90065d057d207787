"""What gas may cost: reserved before anything is signed, settled by receipts.

What was signed before has no row and counts in no day's budget.
"""

from alembic import op

from tallystick.migrations.columns import big, blob, index, small, table, text

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_OUTCOMES = "outcome IN ('open', 'succeeded', 'reverted', 'not_mined')"


def upgrade() -> None:
    table(
        "gas_day",
        big("chain_id"),
        blob("relayer", 20),
        small("day"),
        big("reserved"),
        big("spent"),
        big("wasted"),
        key=("chain_id", "relayer", "day"),
        checks={
            "reserved": "reserved >= 0",
            "wasted": "wasted >= 0 AND wasted <= spent",
        },
    )
    table(
        "payer_gas",
        big("chain_id"),
        blob("payer", 20),
        small("day"),
        big("reserved"),
        big("wasted"),
        key=("chain_id", "payer", "day"),
        checks={"reserved": "reserved >= 0", "wasted": "wasted >= 0"},
    )
    table(
        "relayed_gas",
        blob("tx_hash", 32),
        big("chain_id"),
        blob("relayer", 20),
        big("evm_nonce"),
        blob("payer", 20, null=True),
        small("day"),
        big("reserved"),
        text("outcome"),
        big("cost"),
        big("spent"),
        big("wasted"),
        key=("tx_hash",),
        refers={"tx_hash": "relayed_transaction.tx_hash"},
        checks={
            "outcome": _OUTCOMES,
            "reserved": "reserved >= 0",
            "open": "outcome <> 'open' OR (cost = 0 AND spent = 0)",
            "wasted": "wasted = 0 OR wasted = spent",
        },
    )
    name = "relayed_gas"
    index(f"ix_{name}_evm_nonce", name, ["chain_id", "relayer", "evm_nonce"])
    open_only = "outcome = 'open'"
    index(f"ix_{name}_open", name, ["chain_id", "relayer"], where=open_only)


def downgrade() -> None:
    for name in ("relayed_gas", "payer_gas", "gas_day"):
        op.drop_table(name)
