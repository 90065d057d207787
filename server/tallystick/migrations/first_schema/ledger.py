"""The journal, its accounts and their balances."""

from tallystick.migrations.columns import big, blob, index, small, table, text


def _ledger_account() -> None:
    table(
        "ledger_account",
        big("id"),
        text("code"),
        text("asset"),
        big("customer_id", null=True),
        checks={"asset": "asset IN ('CREDIT', 'USDC', 'USD')"},
        unique={"code": ("code",), "customer_id": ("customer_id",)},
    )


def _account_balance() -> None:
    table(
        "account_balance",
        big("ledger_account_id"),
        big("balance"),
        big("held"),
        big("version"),
        key=("ledger_account_id",),
        checks={
            "never_overdrawn": "balance - held >= 0",
            "held_not_negative": "held >= 0",
            "balance_limit": "balance < 4611686018427387904",
        },
        refers={"ledger_account_id": "ledger_account.id"},
    )


def _ledger_transaction() -> None:
    kinds = "'topup', 'charge', 'grant', 'suspense', 'reversal'"
    table(
        "ledger_transaction",
        big("id"),
        text("kind"),
        blob("idempotency_key", 16),
        blob("input_hash", 16),
        text("reference"),
        text("memo"),
        big("reverses_id", null=True),
        big("occurred_at_ms"),
        big("posted_at_ms"),
        checks={"kind": f"kind IN ({kinds})"},
        refers={"reverses_id": "ledger_transaction.id"},
        unique={
            "idempotency_key": ("idempotency_key",),
            "reverses_id": ("reverses_id",),
        },
    )


def _transfer() -> None:
    table(
        "transfer",
        big("id"),
        big("ledger_transaction_id"),
        small("position"),
        big("debit_account_id"),
        big("credit_account_id"),
        big("amount"),
        big("debit_balance_after", null=True),
        big("debit_version", null=True),
        big("credit_balance_after", null=True),
        big("credit_version", null=True),
        checks={
            "amount": "amount > 0 AND amount < 4611686018427387904",
            "two_accounts": "debit_account_id <> credit_account_id",
        },
        refers={
            "credit_account_id": "ledger_account.id",
            "debit_account_id": "ledger_account.id",
            "ledger_transaction_id": "ledger_transaction.id",
        },
        unique={
            "ledger_transaction_id_position": ("ledger_transaction_id", "position")
        },
    )
    for side in ("credit", "debit"):
        index(
            f"uq_transfer_{side}_version",
            "transfer",
            [f"{side}_account_id", f"{side}_version"],
            where=f"{side}_version IS NOT NULL",
            unique=True,
        )


TABLES = {
    "ledger_account": _ledger_account,
    "account_balance": _account_balance,
    "ledger_transaction": _ledger_transaction,
    "transfer": _transfer,
}
