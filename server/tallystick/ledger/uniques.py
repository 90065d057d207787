"""The UNIQUE indexes on which "only once" rests, and whether the database has them.

Who inserts a row is told whether he was the first. Where the index is gone everybody is,
and nothing else notices. They are told here as the migrations leave them; a migration
that changes one changes it here, too (``tests/ledger/test_uniques.py``).
"""

import re
from collections.abc import Mapping

from tallystick.kernel.db import ReadSession, WriteSession, query
from tallystick.ledger.findings import Finding, unstopped

ONCE = "I8 what is there once is kept so by the database"
Once = tuple[str, str]
"""A table, and the columns that are there once together."""

_OF_ALL_ROWS: Mapping[str, tuple[str, ...]] = {
    "account_balance": ("customer_id",),
    "books_audit": ("kind",),
    "chain_checkpoint": (
        "chain_id, token, pay_to, before",
        "chain_id, token, pay_to, block_number",
    ),
    "chain_cursor": ("chain_id, token, pay_to",),
    "chain_dust": ("chain_id, token, pay_to, first_block",),
    "chain_outflow": ("chain_id, block_hash, log_index",),
    "chain_transfer": ("chain_id, block_hash, log_index",),
    "claim": ("chain_id, token, payer, nonce",),
    "credit_grant": ("ledger_transaction_id",),
    "exposure": ("chain_id, customer_id",),
    "float_day": ("chain_id, day",),
    "gas_day": ("chain_id, relayer, day",),
    "ledger_account": ("code", "customer_id"),
    "merchant_gas": ("chain_id, merchant_id, day",),
    "merchant_payee": ("merchant_id, pay_to",),
    "merchant_settlement": ("chain_id, token, payer, nonce",),
    "offered_catalog": ("version",),
    "payback": ("chain_transfer_id, number", "nonce", "topup_id, number"),
    "payee": ("chain_id, token, pay_to",),
    "payer_gas": ("chain_id, payer, day",),
    "receivable": ("customer_id",),
    "recent_block": ("chain_id, token, pay_to, number",),
    "redemption": ("chain_transfer_id, generation",),
    "relayed_gas": ("tx_hash",),
    "relayed_transaction": ("chain_id, relayer, evm_nonce, attempt", "tx_hash"),
    "relayer": ("address, chain_id",),
    "reversed": ("ledger_transaction_id, asset",),
    "settle_attempt": ("topup_id, attempt",),
    "spend_limit": ("subject, name",),
    "stored_answer": ("key",),
    "topup": ("claim_id",),
    "transfer": ("ledger_transaction_id, position",),
    "used_nonce": ("nonce_digest",),
    "wallet": ("address",),
    "worker": ("owner",),
}
_OF_SOME_ROWS: Mapping[Once, str] = {
    ("chain_transfer", "topup_id"): "topup_id IS NOT NULL AND presence <> 'gone'",
    ("claim", "payer, identifier"): "identifier IS NOT NULL",
    ("ledger_transaction", "idempotency_key"): "idempotency_key IS NOT NULL",
    ("payback", "chain_id, tx_hash, log_index"): "tx_hash IS NOT NULL",
    ("topup", "chain_id, payer"): "in_flight",
    ("transfer", "credit_account_id, credit_version"): "credit_version IS NOT NULL",
    ("transfer", "debit_account_id, debit_version"): "debit_version IS NOT NULL",
}
UNIQUE: Mapping[Once, str] = {
    **{(table, one): "" for table, found in _OF_ALL_ROWS.items() for one in found},
    **_OF_SOME_ROWS,
}
"""Each with the condition of the rows that it is over; empty for all rows."""

_INDEXES = {
    "sqlite": """
        SELECT held.name AS held,
               (SELECT group_concat(name, ', ') FROM (
                    SELECT name FROM pragma_index_info(found.name) ORDER BY seqno)
               ) AS columns,
               CASE WHEN found.partial THEN (
                    SELECT sql FROM sqlite_master WHERE name = found.name)
               END AS condition
          FROM sqlite_master AS held, pragma_index_list(held.name) AS found
         WHERE held.type = 'table' AND found."unique" = 1""",
    "postgresql": """
        SELECT relname AS held, pg_get_expr(indpred, indrelid) AS condition,
               (SELECT string_agg(attname, ', ' ORDER BY place)
                  FROM unnest(indkey) WITH ORDINALITY AS key (number, place)
                  JOIN pg_attribute
                    ON attrelid = indrelid AND attnum = key.number) AS columns
          FROM pg_index
          JOIN pg_class ON pg_class.oid = indrelid
         WHERE indisunique AND indisvalid AND pg_table_is_visible(indrelid)
           AND relnamespace <> to_regnamespace('pg_catalog')""",
}


async def uniques_of(session: ReadSession | WriteSession) -> set[tuple[Once, str]]:
    """What the database keeps there once, as ``UNIQUE`` tells it."""
    rows = await query(session, _INDEXES[session.get_bind().dialect.name])
    return {
        ((row["held"], row["columns"]), _plainly(row["condition"] or ""))
        for row in rows
    }


def _plainly(condition: str) -> str:
    """Without what PostgreSQL adds to it, and SQLite's words before it."""
    alone = re.sub(r"^.*\bWHERE\b", "", condition, flags=re.DOTALL | re.IGNORECASE)
    return " ".join(re.sub(r"::\w+|[()]", "", alone).split())


async def audit_uniques(session: ReadSession | WriteSession) -> list[Finding]:
    """A finding that names what may be there twice."""

    async def check() -> list[Finding]:
        found = await uniques_of(session)
        broken = [
            f"{table} ({columns})"
            for (table, columns), condition in UNIQUE.items()
            if ((table, columns), condition) not in found
        ]
        words = f"no UNIQUE index any more on {', '.join(broken)}"
        return [Finding(ONCE, words)] if broken else []

    return await unstopped(session, ONCE, check)
