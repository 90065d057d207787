"""What a charge writes, and no more than that.

The lot that a customer spends from just now stands in his balance row, so a charge
changes one row of his and not two. A use of a feature bears the id of the transaction
that charged it, and so does the answer to it, which is told from the books. The journal's
references are followed by the audit (I3) and not by each insert, and a charge that is
wanted once for somebody else's key has none of its own.
"""

import sqlalchemy as sa
from alembic import op

from tallystick.migrations.columns import BIG, big, blob, index, small, table, text
from tallystick.migrations.guards import guard, unguard

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_LIMIT = 1 << 62
_KINDS = ("topup", "charge", "grant", "suspense", "reversal", "expiry")
_STATES = ("running", "done", "not_kept", "topup")
_MORE_STATES = ("running", "done", "not_kept", "charged", "topup")
_KEYED = "ledger_transaction_idempotency_key"
_OF_A_KEY = ("idempotency_key", "input_hash")
_SIDES = ("debit", "credit")
_AFTER = ("balance_after", "version")
_ACCOUNTS = ("credit_account_id", "debit_account_id")
_LOT_LEFT = """
CREATE VIEW lot_left AS
SELECT lot.id, lot.ledger_account_id, amount, is_open, effective_at_ms, expires_at_ms,
       CASE WHEN burning_lot_id = lot.id THEN burning_left ELSE remaining END
         AS remaining
  FROM lot
  LEFT JOIN account_balance
    ON account_balance.ledger_account_id = lot.ledger_account_id
"""


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        _upgrade_in_place()
    else:
        _create_balances(burning=True)
        _swap("account_balance", "*, NULL, 0")
        _create_usage(own_id=False)
        events = "ledger_transaction_id, customer_id, feature, quantity, credits"
        _swap("usage_event", f"{events}, catalog_version, occurred_at_ms")
        _create_answers(_MORE_STATES)
        kept = "id, key, fingerprint, state, claim_id, http_status, headers, body"
        _swap("stored_answer", f"{kept}, expires_at_ms")
        _remake_journal(lean=True)
    _index_again(lean=True)
    op.execute(_LOT_LEFT)


def downgrade() -> None:
    """An answer that is told from its charge becomes one that was not kept.

    Fails on books that have charges without a key.
    """
    op.execute("""
        UPDATE lot SET remaining = burning_left, is_open = burning_left > 0
          FROM account_balance WHERE burning_lot_id = lot.id""")
    op.execute("UPDATE stored_answer SET state = 'not_kept' WHERE state = 'charged'")
    op.execute("DROP VIEW lot_left")
    if op.get_bind().dialect.name == "postgresql":
        _downgrade_in_place()
    else:
        _create_balances(burning=False)
        figures = "balance, held, deferred, version, revision, next_change_ms"
        _swap("account_balance", f"ledger_account_id, {figures}")
        _create_usage(own_id=True)
        events = "id, customer_id, feature, quantity, credits, catalog_version"
        _swap("usage_event", f"{events}, id, occurred_at_ms")
        _create_answers(_STATES)
        kept = "id, key, fingerprint, state, claim_id, http_status, headers, body"
        _swap("stored_answer", f"{kept}, expires_at_ms")
        _remake_journal(lean=False)
    _index_again(lean=False)


def _upgrade_in_place() -> None:
    op.add_column("account_balance", big("burning_lot_id", null=True))
    left = sa.Column("burning_left", BIG, nullable=False, server_default="0")
    op.add_column("account_balance", left)
    op.alter_column("account_balance", "burning_left", server_default=None)
    check = op.f("ck_account_balance_burning_not_negative")
    op.create_check_constraint(check, "account_balance", "burning_left >= 0")
    for one in ("ledger_transaction_id", "customer_id"):
        op.drop_constraint(op.f(f"fk_usage_event_{one}"), "usage_event")
    op.execute("UPDATE usage_event SET id = ledger_transaction_id")
    op.drop_column("usage_event", "ledger_transaction_id")
    op.drop_index("ix_usage_event_customer_id", "usage_event")
    op.drop_index("ix_stored_answer_expires_at_ms", "stored_answer")
    _alter_states(_MORE_STATES)
    op.drop_constraint(op.f(f"uq_{_KEYED}"), "ledger_transaction")
    for one in _OF_A_KEY:
        op.alter_column("ledger_transaction", one, nullable=True)
    for one in ("ledger_transaction_id", *_ACCOUNTS):
        op.drop_constraint(op.f(f"fk_transfer_{one}"), "transfer")


def _downgrade_in_place() -> None:
    group = "ledger_transaction_id"
    op.add_column("usage_event", big(group, null=True))
    op.execute("UPDATE usage_event SET ledger_transaction_id = id")
    op.alter_column("usage_event", group, nullable=False)
    unique = op.f("uq_usage_event_ledger_transaction_id")
    op.create_unique_constraint(unique, "usage_event", [group])
    for one in _ACCOUNTS:
        _refer("transfer", one, "ledger_account")
    _refer("transfer", group, "ledger_transaction")
    _refer("usage_event", group, "ledger_transaction")
    _refer("usage_event", "customer_id", "customer")
    _alter_states(_STATES)
    op.drop_index("ix_stored_answer_expires_at_ms", "stored_answer")
    op.drop_index(op.f(f"uq_{_KEYED}"), "ledger_transaction")
    for column in _OF_A_KEY:
        op.alter_column("ledger_transaction", column, nullable=False)
    op.create_unique_constraint(
        op.f(f"uq_{_KEYED}"), "ledger_transaction", ["idempotency_key"]
    )
    for one in ("burning_left", "burning_lot_id"):
        op.drop_column("account_balance", one)


def _refer(name: str, column: str, to: str) -> None:
    op.create_foreign_key(op.f(f"fk_{name}_{column}"), name, to, [column], ["id"])


def _alter_states(states: tuple[str, ...]) -> None:
    name = op.f("ck_stored_answer_state")
    op.drop_constraint(name, "stored_answer")
    op.create_check_constraint(name, "stored_answer", _one_of(states))


def _one_of(states: tuple[str, ...]) -> str:
    return f"state IN ({', '.join(repr(one) for one in states)})"


def _create_balances(*, burning: bool) -> None:
    extra = (big("burning_lot_id", null=True), big("burning_left"))
    table(
        "account_balance",
        big("ledger_account_id"),
        *map(big, ("balance", "held", "deferred", "version", "revision")),
        big("next_change_ms", null=True),
        *(extra if burning else ()),
        key=("ledger_account_id",),
        checks={
            "never_overdrawn": "balance - held - deferred >= 0",
            "held_not_negative": "held >= 0",
            "deferred_not_negative": "deferred >= 0",
            "balance_limit": f"balance < {_LIMIT}",
        }
        | ({"burning_not_negative": "burning_left >= 0"} if burning else {}),
        refers={"ledger_account_id": "ledger_account.id"},
        create_as="account_balance_new",
    )


def _create_usage(*, own_id: bool) -> None:
    charged_by = "ledger_transaction_id"
    table(
        "usage_event",
        big("id"),
        big("customer_id"),
        text("feature"),
        big("quantity"),
        big("credits"),
        text("catalog_version"),
        *([big(charged_by)] if own_id else []),
        big("occurred_at_ms"),
        refers={"customer_id": "customer.id", charged_by: "ledger_transaction.id"}
        if own_id
        else None,
        unique={charged_by: (charged_by,)} if own_id else None,
        create_as="usage_event_new",
    )


def _create_answers(states: tuple[str, ...]) -> None:
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
        checks={"state": _one_of(states)},
        unique={"key": ("key",)},
        create_as="stored_answer_new",
    )


def _remake_journal(*, lean: bool) -> None:
    """SQLite cannot drop a reference. The views of the table are made again, too."""
    unguard()
    (view,) = (
        op.get_bind()
        .execute(sa.text("SELECT sql FROM sqlite_master WHERE name = 'lot_entry'"))
        .one()
    )
    op.execute("DROP VIEW lot_entry")
    _create_transactions(lean=lean)
    _swap("ledger_transaction", "*")
    _create_transfers(referring=not lean)
    _swap("transfer", "*")
    for side in ("credit", "debit"):
        index(
            f"uq_transfer_{side}_version",
            "transfer",
            [f"{side}_account_id", f"{side}_version"],
            where=f"{side}_version IS NOT NULL",
            unique=True,
        )
    op.execute(view)
    guard()


def _create_transactions(*, lean: bool) -> None:
    key = "idempotency_key"
    table(
        "ledger_transaction",
        big("id"),
        text("kind"),
        *(blob(one, 16, null=lean) for one in _OF_A_KEY),
        text("reference"),
        text("memo"),
        big("reverses_id", null=True),
        big("occurred_at_ms"),
        big("posted_at_ms"),
        checks={"kind": f"kind IN ({', '.join(repr(one) for one in _KINDS)})"},
        refers={"reverses_id": "ledger_transaction.id"},
        unique=None if lean else {key: (key,)},
        create_as="ledger_transaction_new",
    )


def _create_transfers(*, referring: bool) -> None:
    group = "ledger_transaction_id"
    refers = dict.fromkeys(_ACCOUNTS, "ledger_account.id")
    after = [f"{side}_{what}" for side in _SIDES for what in _AFTER]
    table(
        "transfer",
        big("id"),
        big(group),
        small("position"),
        *map(big, ("debit_account_id", "credit_account_id", "amount")),
        *(big(one, null=True) for one in (*after, "lot_id")),
        text("lots", null=True),
        checks={
            "amount": f"amount > 0 AND amount < {_LIMIT}",
            "two_accounts": "debit_account_id <> credit_account_id",
        },
        refers=refers | {group: "ledger_transaction.id"} if referring else None,
        unique={"ledger_transaction_id_position": (group, "position")},
        create_as="transfer_new",
    )


def _swap(name: str, columns: str) -> None:
    """Put the new table in the old one's place; SQLite cannot change constraints."""
    op.execute(f"INSERT INTO {name}_new SELECT {columns} FROM {name}")  # noqa: S608  # our own words
    op.execute(f"DROP TABLE {name}")
    op.execute(f"ALTER TABLE {name}_new RENAME TO {name}")


def _index_again(*, lean: bool) -> None:
    """The indexes that went with the tables that were made anew, and those that change.

    Answers of charges are found by their ids, which rise with time.
    """
    some = "state <> 'charged'" if lean else None
    index(
        "ix_stored_answer_expires_at_ms", "stored_answer", ["expires_at_ms"], where=some
    )
    if op.get_bind().dialect.name == "sqlite":
        _index_on_sqlite()
    if lean:
        keyed = "idempotency_key IS NOT NULL"
        name, key = "ledger_transaction", ["idempotency_key"]
        index(f"uq_{_KEYED}", name, key, where=keyed, unique=True)
    else:
        index("ix_usage_event_customer_id", "usage_event", ["customer_id"])


def _index_on_sqlite() -> None:
    for table_, column in (
        ("account_balance", "next_change_ms"),
        ("ledger_transaction", "reverses_id"),
    ):
        name = f"ix_{table_}_{column.removesuffix('_ms')}"
        index(name, table_, [column], where=f"{column} IS NOT NULL")
