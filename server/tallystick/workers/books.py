"""The books in themselves: all of them, or what is new since a checkpoint."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import text

from tallystick.credits.audit import audit_credits
from tallystick.credits.recent import credits_scope, holds_after, new_holds
from tallystick.customers.audit import audit_customers, customers_scope
from tallystick.kernel.db import ReadSession, query
from tallystick.kernel.ids import first_id_at, made_at_ms
from tallystick.ledger.audit import audit_ledger, audit_postings, audit_protection
from tallystick.ledger.audit_rounds import Checkpoint, start_of
from tallystick.ledger.digests import HIGHEST, LOWEST
from tallystick.ledger.findings import Finding
from tallystick.ledger.recent import New, ledger_scope, touched_by
from tallystick.ledger.sealed_audit import audit_new_seals
from tallystick.ledger.sealing import sealed_up_to
from tallystick.metering.audit import audit_metering
from tallystick.metering.recent import metering_scope
from tallystick.payments.reconciling.reconcile import audit_payments
from tallystick.paywall.audit import audit_answers

SLICE = 1_000
"""Accounts that a round looks at besides those that it must."""
_SEALS = 40
AT_ONCE = 1_000
"""Transactions, or holds, that are looked at together."""
_MOST = 20_000
_HOLDS_BACK_MS = 180_000
"""A hold that comes to nothing leaves no trace but its row, which is looked at so long."""
_TAIL = "SELECT id FROM ledger_transaction WHERE id > :after ORDER BY id LIMIT :most"
_SLICE = """
    SELECT ledger_account_id FROM account_balance
     WHERE ledger_account_id > :after ORDER BY ledger_account_id LIMIT :most"""


@dataclass(frozen=True, slots=True)
class Round:
    """What a round found, and from where the next one goes on if that is nothing."""

    findings: list[Finding]
    checkpoint: Checkpoint
    is_end: bool


async def audit_books(session: ReadSession) -> list[Finding]:
    """Every broken invariant that the database alone can show."""
    return [
        *await audit_ledger(session),
        *await audit_credits(session),
        *await audit_customers(session),
        *await audit_payments(session),
        *await audit_metering(session),
        *await audit_answers(session),
    ]


async def audit_recent(
    session: ReadSession,
    since: Checkpoint,
    *,
    slice_: int = SLICE,
    at_once: int = AT_ONCE,
) -> Round:
    """What is new since the checkpoint, at most some ten thousands of transactions.

    Without one, from the end of the seals on: what is older is for ``audit_books``.
    The session must read one snapshot. It is not good for other reading afterwards.
    """
    await _by_index(session)
    if since.head is None:
        end = await sealed_up_to(session)
        through = LOWEST if end.last_id is None else end.last_id
        since = replace(since, head=end.head, through_id=through)
    seals = await audit_new_seals(
        session, start_of(since), since.through_id, most=_SEALS
    )
    is_end = seals.head.number >= seals.end.number
    findings = [*await audit_protection(session), *seals.findings]
    tail = await _ids(session, _TAIL, seals.last_id) if is_end else []
    parts = _parts([*seals.transactions, *tail], at_once)
    for new in _pieces(parts, since.through_id, is_end=is_end):
        findings += await _audit_piece(session, new)
    late = await holds_after(session, _back(since), most=_MOST)
    for holds in _parts(late, at_once):
        findings += await _audit_piece(session, New(holds=tuple(holds)))
    some = await _ids(session, _SLICE, since.slice_after, slice_)
    findings += await _audit_piece(session, New(accounts=tuple(some)))
    slice_after = some[-1] if len(some) == slice_ else LOWEST
    return Round(
        list(dict.fromkeys(findings)),
        Checkpoint(seals.head, seals.last_id, slice_after),
        is_end,
    )


async def _by_index(session: ReadSession) -> None:
    """Keep PostgreSQL from reading whole tables, whatever it thinks of their size."""
    if session.get_bind().dialect.name == "postgresql":
        connection = await session.connection()
        for kind in ("seqscan", "mergejoin"):
            await connection.execute(text(f"SET LOCAL enable_{kind} = off"))


def _back(since: Checkpoint) -> int:
    if since.through_id == LOWEST:
        return LOWEST
    return first_id_at(made_at_ms(since.through_id) - _HOLDS_BACK_MS)


async def _ids(
    session: ReadSession, sql: str, after: int, most: int = _MOST
) -> list[int]:
    return [
        one
        for row in await query(session, sql, after=after, most=most)
        for one in row.values()
    ]


def _pieces(
    parts: Iterator[Sequence[int]], after: int, *, is_end: bool
) -> Iterator[New]:
    """The transactions in parts, and what was made with each of them.

    At the end of the books there is one more, for what has no transaction.
    """
    for some in parts:
        upto = max(after, *some)
        yield New(tuple(some), after=after, upto=upto)
        after = upto
    if is_end:
        yield New(after=after, upto=HIGHEST)


def _parts(ids: Sequence[int], at_once: int) -> Iterator[Sequence[int]]:
    return (ids[at : at + at_once] for at in range(0, len(ids), at_once))


async def _audit_piece(session: ReadSession, new: New) -> list[Finding]:
    dialect = session.get_bind().dialect.name
    holds = await new_holds(session, new)
    accounts = await touched_by(session, new) | holds.accounts
    scope = ledger_scope(dialect, new, accounts)
    scope = credits_scope(scope, dialect, new, holds)
    scope = customers_scope(metering_scope(scope, dialect), dialect)
    return [
        *await audit_postings(session, scope),
        *await audit_credits(session, scope),
        *await audit_customers(session, scope),
        *await audit_metering(session, scope),
    ]
