"""What an audit of what is new sees of holds and grants (``ledger.recent``).

Nothing but its id leads to a hold that was settled. So those are looked at that are named,
and those that the new charges captured. That a hold came to nothing is booked nowhere:
who audits names the holds of the last minutes again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import bindparam, text

from tallystick.credits.holds import charge_key, hold_behind
from tallystick.kernel.db import ReadSession, WriteSession, query
from tallystick.ledger.recent import New, lot_entries
from tallystick.ledger.scope import Scope, as_list, listed, part

_DRAWS = {
    "sqlite": (
        "json_each(hold.lots) AS draw",
        "json_extract(draw.value, '$[{}]')",
    ),
    "postgresql": (
        "jsonb_array_elements(CAST(hold.lots AS jsonb)) AS draw",
        "CAST(draw ->> {} AS BIGINT)",
    ),
}
_TAKEN = {
    "sqlite": ("json_each(hold.limits) AS one", "json_extract(one.value, '$[{}]')"),
    "postgresql": (
        "jsonb_array_elements(CAST(hold.limits AS jsonb)) AS one",
        "CAST(one ->> {} AS BIGINT)",
    ),
}
_HOLDS = """
    SELECT id FROM hold WHERE id > :after ORDER BY id LIMIT :most"""
_CAPTURES = text("SELECT id FROM ledger_transaction WHERE idempotency_key IN :keys")
_KEYS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class NewHolds:
    """Holds to audit, the charges that captured them, and their customers' accounts."""

    ids: frozenset[int]
    charges: frozenset[int]
    accounts: frozenset[int]


async def holds_after(
    session: ReadSession | WriteSession, after: int, *, most: int
) -> list[int]:
    """The oldest holds with later ids."""
    return [row["id"] for row in await query(session, _HOLDS, after=after, most=most)]


async def new_holds(session: ReadSession | WriteSession, new: New) -> NewHolds:
    """The holds that are named, and those behind the transactions."""
    dialect = session.get_bind().dialect.name
    recent = listed(dialect, "recent")
    charges = await query(
        session,
        "SELECT reference, idempotency_key FROM ledger_transaction"  # noqa: S608  # our own words
        f" WHERE id IN ({recent}) AND kind = 'charge' AND reference LIKE 'hold:%'",
        recent=as_list(dialect, new.transactions),
    )
    behind = {hold_behind(row["reference"], row["idempotency_key"]) for row in charges}
    ids = frozenset({*new.holds, *behind} - {None})
    some = sorted(one for one in ids if one is not None)
    rows = await query(
        session,
        "SELECT ledger_account.id FROM hold"  # noqa: S608  # our own words
        " JOIN ledger_account ON ledger_account.customer_id = hold.customer_id"
        f" WHERE hold.id IN ({listed(dialect, 'holds')})",
        holds=as_list(dialect, some),
    )
    accounts = frozenset(row["id"] for row in rows)
    return NewHolds(frozenset(some), await _captures(session, some), accounts)


async def _captures(
    session: ReadSession | WriteSession, holds: Sequence[int]
) -> frozenset[int]:
    found: set[int] = set()
    connection = await session.connection()
    keyed = _CAPTURES.bindparams(bindparam("keys", expanding=True))
    for at in range(0, len(holds), _KEYS_AT_ONCE):
        keys = [charge_key(one) for one in holds[at : at + _KEYS_AT_ONCE]]
        found.update((await connection.execute(keyed, {"keys": keys})).scalars())
    return frozenset(found)


def credits_scope(scope: Scope, dialect: str, new: New, holds: NewHolds) -> Scope:
    """The scope with the parts of the credits' tables that belong to it."""
    recent, touched = listed(dialect, "recent"), listed(dialect, "accounts")
    held, captures = listed(dialect, "holds"), listed(dialect, "captures")
    customers = (
        "SELECT customer_id FROM ledger_account"  # noqa: S608  # our own words
        f" WHERE id IN ({touched}) AND customer_id IS NOT NULL"
    )
    limits = _hold_limits(dialect, held)
    sources = {
        "hold": part("hold", f"id IN ({held})"),
        "hold:open": part("hold", f"state = 'open' AND customer_id IN ({customers})"),
        "hold_draw": _hold_draws(dialect, held),
        "hold_limit": limits,
        "ledger_transaction:capture": part("ledger_transaction", f"id IN ({captures})"),
        "lot_entry:capture": lot_entries(dialect, captures),
        "credit_grant": part("credit_grant", f"id IN ({_grants(recent)})"),
        "receivable": part("receivable", f"ledger_account_id IN ({touched})"),
        "spend_limit": part("spend_limit", f"id IN (SELECT limit_id FROM {limits})"),  # noqa: S608  # our own words
    }
    values = {
        "holds": as_list(dialect, holds.ids),
        "captures": as_list(dialect, holds.charges),
        "after": new.after,
        "upto": new.upto,
    }
    return scope.with_parts(sources, values)


def _grants(recent: str) -> str:
    return (
        "SELECT id FROM credit_grant"  # noqa: S608  # our own words
        f" WHERE ledger_transaction_id IN ({recent})"
        " UNION SELECT id FROM credit_grant WHERE id > :after AND id <= :upto"
    )


def _hold_draws(dialect: str, holds: str) -> str:
    source, member = _DRAWS[dialect]
    return f"""(
    SELECT id AS hold_id, lot_id, amount FROM hold
     WHERE lot_id IS NOT NULL AND id IN ({holds})
    UNION ALL
    SELECT hold.id, {member.format(0)}, {member.format(1)} FROM hold, {source}
     WHERE hold.lots IS NOT NULL AND hold.id IN ({holds})) AS hold_draw"""  # noqa: S608  # our own words


def _hold_limits(dialect: str, holds: str) -> str:
    source, member = _TAKEN[dialect]
    names = ("limit_id", "amount", "window_number")
    members = _named(member, names)
    return f"""(
    SELECT hold.id AS hold_id, {members} FROM hold, {source}
     WHERE hold.limits IS NOT NULL AND hold.id IN ({holds})) AS hold_limit"""  # noqa: S608  # our own words


def _named(member: str, names: Iterable[str]) -> str:
    return ", ".join(f"{member.format(n)} AS {name}" for n, name in enumerate(names))
