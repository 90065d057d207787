"""Rows under the key by which they are looked for, and no second one beside it.

A transfer is its transaction's first, second, …, and an answer is found by its key: ids
of their own were an index each that only their uniqueness needed. SQLite keeps both
tables in the order of their keys. A balance is found by its customer, and says by itself
since when what burns has counted.

The journal's seals told of those ids, so the chain begins anew. New seals over rows that
are not as they were sealed would hide that for ever: then nothing is changed.
"""

import logging

import sqlalchemy as sa
from alembic import context, op

from tallystick.migrations.columns import BIG, big, blob, index, small, table, text
from tallystick.migrations.errors import BrokenSeals
from tallystick.migrations.guards import allow_changes, refuse_changes
from tallystick.migrations.old_seals import first_flaw
from tallystick.migrations.rights import return_rights, take_rights

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_LIMIT = 1 << 62
_STATES = ("running", "done", "not_kept", "charged", "topup")
_GROUP, _PLACE = "ledger_transaction_id", ("ledger_transaction_id", "position")
_SIDES = ("debit", "credit")
_ACCOUNTS = ("debit_account_id", "credit_account_id")
_AFTER = [f"{side}_{what}" for side in _SIDES for what in ("balance_after", "version")]
_KEPT = "key, fingerprint, state, claim_id, http_status, headers, body, expires_at_ms"
_ALONE = {
    "customer_id": "(SELECT one.customer_id FROM ledger_account AS one"
    " WHERE one.id = account_balance.ledger_account_id)",
    "burning_since_ms": "(SELECT lot.effective_at_ms FROM lot"
    " WHERE lot.id = account_balance.burning_lot_id)",
}
_NUMBERED = "ROW_NUMBER() OVER (ORDER BY ledger_transaction_id, position)"
_LOT_LEFT = """
CREATE VIEW lot_left AS
SELECT lot.id, lot.ledger_account_id, amount, is_open, effective_at_ms, expires_at_ms,
       CASE WHEN burning_lot_id = lot.id THEN burning_left ELSE remaining END
         AS remaining
  FROM lot
  LEFT JOIN account_balance
    ON account_balance.ledger_account_id = lot.ledger_account_id
"""
_JSON = {
    "sqlite": (
        "json_each(transfer.lots) AS draw",
        "json_extract(draw.value, '$[0]')",
        "json_extract(draw.value, '$[1]')",
    ),
    "postgresql": (
        "jsonb_array_elements(CAST(transfer.lots AS jsonb)) AS draw",
        "CAST(draw ->> 0 AS BIGINT)",
        "CAST(draw ->> 1 AS BIGINT)",
    ),
}


def upgrade() -> None:
    """Raises ``BrokenSeals``, unless who runs it accepts that."""
    _verify_seals()
    _remake(with_ids=False)


def downgrade() -> None:
    """Transfers are numbered in their order, and answers by whoever answered."""
    _remake(with_ids=True)


def _verify_seals() -> None:
    flaw = first_flaw(op.get_bind())
    if flaw is None:
        return
    if not context.config.attributes.get("accept_broken_seals"):
        raise BrokenSeals(flaw)
    logging.getLogger(__name__).warning(
        "new seals over books that were broken: %s", flaw
    )


def _remake(*, with_ids: bool) -> None:
    return_rights()
    _forget_seals()
    for name in ("entry", "lot_entry", "lot_left"):
        op.execute(f"DROP VIEW {name}")
    allow_changes("transfer")
    if op.get_bind().dialect.name == "postgresql":
        (_add_ids if with_ids else _drop_ids)()
    else:
        _create_transfers(with_ids=with_ids)
        _create_answers(with_ids=with_ids)
        _create_balances(found_alone=not with_ids)
    refuse_changes("transfer")
    _create_views("transfer.id AS transfer_id" if with_ids else "position")
    take_rights()


def _forget_seals() -> None:
    allow_changes("journal_seal")
    op.execute("DELETE FROM journal_seal")
    op.execute("UPDATE installation SET seals = 0")
    refuse_changes("journal_seal")


def _drop_ids() -> None:
    for column, found in _ALONE.items():
        op.add_column("account_balance", sa.Column(column, BIG))
        op.execute(f"UPDATE account_balance SET {column} = {found}")  # noqa: S608  # our own words
    op.alter_column("account_balance", "customer_id", nullable=False)
    op.create_unique_constraint(
        op.f("uq_account_balance_customer_id"), "account_balance", ["customer_id"]
    )
    for name, unique, key in (
        ("transfer", "ledger_transaction_id_position", _PLACE),
        ("stored_answer", "key", ("key",)),
    ):
        op.drop_constraint(op.f(f"pk_{name}"), name)
        op.drop_constraint(op.f(f"uq_{name}_{unique}"), name)
        op.create_primary_key(op.f(f"pk_{name}"), name, list(key))
    op.drop_column("transfer", "id")
    op.alter_column("stored_answer", "id", new_column_name="owner")


def _add_ids() -> None:
    for column in _ALONE:
        op.drop_column("account_balance", column)
    op.add_column("transfer", sa.Column("id", BIG))
    op.execute(f"""
        UPDATE transfer SET id = numbered.id
          FROM (SELECT ledger_transaction_id, position, {_NUMBERED} AS id
                  FROM transfer) AS numbered
         WHERE (transfer.ledger_transaction_id, transfer.position)
             = (numbered.ledger_transaction_id, numbered.position)""")  # noqa: S608  # our own words
    op.alter_column("stored_answer", "owner", new_column_name="id")
    for name, unique, key in (
        ("transfer", "ledger_transaction_id_position", _PLACE),
        ("stored_answer", "key", ("key",)),
    ):
        op.drop_constraint(op.f(f"pk_{name}"), name)
        op.create_primary_key(op.f(f"pk_{name}"), name, ["id"])
        op.create_unique_constraint(op.f(f"uq_{name}_{unique}"), name, list(key))


def _create_transfers(*, with_ids: bool) -> None:
    """On SQLite, which cannot change a table's key."""
    table(
        "transfer",
        *((big("id"),) if with_ids else ()),
        big(_GROUP),
        small("position"),
        *map(big, (*_ACCOUNTS, "amount")),
        *(big(one, null=True) for one in (*_AFTER, "lot_id")),
        text("lots", null=True),
        key=("id",) if with_ids else _PLACE,
        checks={
            "amount": f"amount > 0 AND amount < {_LIMIT}",
            "two_accounts": "debit_account_id <> credit_account_id",
        },
        unique={"ledger_transaction_id_position": _PLACE} if with_ids else None,
        create_as="transfer_new",
        with_rowid=with_ids,
    )
    columns = ", ".join([*_PLACE, *_ACCOUNTS, "amount", *_AFTER, "lot_id", "lots"])
    _swap("transfer", f"{_NUMBERED}, {columns}" if with_ids else columns)
    for side in _SIDES:
        index(
            f"uq_transfer_{side}_version",
            "transfer",
            [f"{side}_account_id", f"{side}_version"],
            where=f"{side}_version IS NOT NULL",
            unique=True,
        )


def _create_answers(*, with_ids: bool) -> None:
    table(
        "stored_answer",
        *((big("id"),) if with_ids else ()),
        blob("key", 16),
        blob("fingerprint", 16),
        text("state"),
        big("claim_id", null=True),
        small("http_status", null=True),
        text("headers", null=True),
        blob("body", 65536, null=True),
        big("expires_at_ms"),
        *(() if with_ids else (big("owner"),)),
        key=("id",) if with_ids else ("key",),
        checks={"state": f"state IN ({', '.join(repr(one) for one in _STATES)})"},
        unique={"key": ("key",)} if with_ids else None,
        create_as="stored_answer_new",
        with_rowid=with_ids,
    )
    _swap("stored_answer", f"owner, {_KEPT}" if with_ids else f"{_KEPT}, id")
    name, some = "ix_stored_answer_expires_at_ms", "state <> 'charged'"
    index(name, "stored_answer", ["expires_at_ms"], where=some)


def _create_balances(*, found_alone: bool) -> None:
    figures = ("balance", "held", "deferred", "version", "revision")
    name, left = "account_balance", ("burning_lot_id", "burning_left")
    alone = (big("customer_id"), big("burning_since_ms", null=True))
    table(
        name,
        big("ledger_account_id"),
        *map(big, figures),
        big("next_change_ms", null=True),
        big("burning_lot_id", null=True),
        big("burning_left"),
        *(alone if found_alone else ()),
        key=("ledger_account_id",),
        checks={
            "never_overdrawn": "balance - held - deferred >= 0",
            "held_not_negative": "held >= 0",
            "deferred_not_negative": "deferred >= 0",
            "balance_limit": f"balance < {_LIMIT}",
            "burning_not_negative": "burning_left >= 0",
        },
        refers={"ledger_account_id": "ledger_account.id"},
        unique={"customer_id": ("customer_id",)} if found_alone else None,
        create_as=f"{name}_new",
    )
    found = _ALONE.values() if found_alone else ()
    columns = ["ledger_account_id", *figures, "next_change_ms", *left, *found]
    _swap(name, ", ".join(columns))
    some = "next_change_ms IS NOT NULL"
    index(f"ix_{name}_next_change", name, ["next_change_ms"], where=some)


def _swap(name: str, columns: str) -> None:
    """Put the new table in the old one's place; SQLite cannot change constraints."""
    op.execute(f"INSERT INTO {name}_new SELECT {columns} FROM {name}")  # noqa: S608  # our own words
    op.execute(f"DROP TABLE {name}")
    op.execute(f"ALTER TABLE {name}_new RENAME TO {name}")


def _create_views(place: str) -> None:
    op.execute(f"""
        CREATE VIEW entry AS
        SELECT {place}, ledger_transaction_id, debit_account_id AS ledger_account_id,
               -amount AS amount, debit_balance_after AS balance_after,
               debit_version AS version
          FROM transfer
        UNION ALL
        SELECT {place}, ledger_transaction_id, credit_account_id, amount,
               credit_balance_after, credit_version
          FROM transfer""")  # noqa: S608  # our own words
    source, lot_id, amount = _JSON[op.get_bind().dialect.name]
    op.execute(f"""
        CREATE VIEW lot_entry AS
        SELECT {place}, ledger_transaction_id, lot_id,
               CASE WHEN debit_version IS NULL THEN amount ELSE -amount END AS amount
          FROM transfer WHERE lot_id IS NOT NULL
        UNION ALL
        SELECT {place}, ledger_transaction_id, {lot_id}, {amount}
          FROM transfer, {source}
         WHERE transfer.lots IS NOT NULL""")  # noqa: S608  # our own words
    op.execute(_LOT_LEFT)
