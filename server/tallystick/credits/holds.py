"""Holds: credits set aside for a call, and what becomes of them.

    place ──▶ open ──▶ captured   (all or part is charged, the rest is free again)
                   ├─▶ released   (nothing is charged)
                   └─▶ expired    (nobody settled it in time; nothing is charged)

A hold has drawn its lots when it was placed, so it keeps its credits even when a lot
expires meanwhile. What is not captured returns to the very same lots; what returns to
an expired one is breakage.

Expiry is judged in the same statement that settles, so an expired hold cannot be
captured even when no sweeper runs. Locks are taken in one order, the hold before the
balance and the balance before limits. So who has asked for a balance or a limit closes
no hold in the same transaction (``expire_lapsed_first``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, NoReturn

from sqlalchemy import ColumnElement, case, insert, literal_column, update
from sqlmodel import col, select

from tallystick.credits.errors import HoldAlreadySettled, HoldTooSmall, UnknownHold
from tallystick.credits.limits import (
    LimitTake,
    Taken,
    give_back,
    left_over,
    pack_taken,
    take,
    unpack_taken,
)
from tallystick.credits.models import Hold, HoldState
from tallystick.kernel.db import (
    ReadSession,
    WriteSession,
    new_id,
    now_ms,
    write_first,
)
from tallystick.kernel.money import CREDIT, NO_CREDITS, Amount, MicroCredits
from tallystick.kernel.seal import digest16
from tallystick.ledger import chart
from tallystick.ledger.change import change
from tallystick.ledger.errors import InsufficientCredits
from tallystick.ledger.journal import post
from tallystick.ledger.lots import Draw, pack, unpack
from tallystick.ledger.models import TransactionKind
from tallystick.ledger.page import Page
from tallystick.ledger.posting import FromHold, Posted, Posting, Transfer
from tallystick.ledger.references import number_in, reference_to

# Spelled out, so that a plan made for any state still uses the indexes of open holds.
_OPEN = col(Hold.state) == literal_column("'open'")
_SETTLED = tuple(
    map(
        col,
        (
            Hold.customer_id,
            Hold.feature,
            Hold.amount,
            Hold.captured,
            Hold.lot_id,
            Hold.lots,
            Hold.limits,
        ),
    )
)
_ALL_OF_ONE = 100_000


@dataclass(frozen=True, slots=True)
class PlacedHold:
    """Credits set aside, in micro-credits."""

    id: int
    customer_id: int
    feature: str
    amount: MicroCredits


class _Settled(NamedTuple):
    customer_id: int
    feature: str
    amount: int
    captured: int
    lot_id: int | None
    lots: str | None
    limits: str | None

    @property
    def draws(self) -> tuple[Draw, ...]:
        return unpack(self.lot_id, self.lots, self.amount)

    @property
    def returned(self) -> tuple[Taken, ...]:
        """What goes back to limits: all, or what the capture left of credits."""
        taken = unpack_taken(self.limits)
        return left_over(taken, self.amount - self.captured) if self.captured else taken


async def place(
    session: WriteSession,
    customer_id: int,
    feature: str,
    amount: MicroCredits,
    *,
    lifetime_seconds: int,
    limits: Sequence[LimitTake] = (),
) -> PlacedHold | None:
    """Set credits aside if the customer has them; ``None`` when he is short.

    What his lapsed holds have counts as his, whether or not a sweeper runs: if he is
    short or reaches a limit they are closed first, and the caller's transaction begins
    anew. When he is short all the same, nothing of this call is written, so it may go on.
    ``limits`` are taken with the credits; what the call does not use goes back.
    Raises ``InvalidAmount`` when the amount is not positive, and ``LimitReached`` or
    ``UnknownLimit``: then the caller's transaction must roll back.
    """
    Amount(amount, CREDIT)
    if lifetime_seconds <= 0:
        raise ValueError("a hold must live for a while")
    now = now_ms(session)
    draws = await _draw(session, customer_id, amount, now, lock=False)
    if draws is None:
        await expire_lapsed_first(session, customer_id)
        # Nothing has lapsed, but somebody may be giving him credits just now.
        draws = await _draw(session, customer_id, amount, now, lock=True)
    if draws is None:
        return None

    make_room = partial(expire_lapsed_first, customer_id=customer_id)
    taken = await take(session, limits, when_reached=make_room)
    hold_id = new_id(session)
    lot_id, lots = pack(draws, amount)
    await session.exec(
        insert(Hold).values(
            id=hold_id,
            customer_id=customer_id,
            feature=feature,
            amount=amount,
            captured=0,
            state=HoldState.OPEN,
            placed_at_ms=now,
            expires_at_ms=now + lifetime_seconds * 1000,
            lot_id=lot_id,
            lots=lots,
            limits=pack_taken(taken),
        )
    )
    return PlacedHold(hold_id, customer_id, feature, amount)


async def _draw(
    session: WriteSession, customer_id: int, amount: int, now: int, *, lock: bool
) -> tuple[Draw, ...] | None:
    def work(page: Page) -> tuple[Draw, ...]:
        account = page.accounts.get(customer_id)
        if account is None:
            raise InsufficientCredits(amount, 0)
        return account.hold(amount, now)

    try:
        return await change(session, [customer_id], work, now=now, lock=lock)
    except InsufficientCredits:
        return None


async def capture(
    session: WriteSession,
    hold_id: int,
    amount: MicroCredits | None = None,
    *,
    memo: str = "",
) -> Posted:
    """Charge the hold, all of it unless ``amount`` says less; free the rest.

    A call that cost nothing is released, so zero is refused. Raises ``InvalidAmount``,
    ``UnknownHold``, ``HoldAlreadySettled`` (also when it lapsed) or ``HoldTooSmall``;
    then nothing is charged and the hold is as it was.
    """
    if amount is not None:
        Amount(amount, CREDIT)
    hold = await _settle(session, hold_id, HoldState.CAPTURED, captured=amount)
    spent = Transfer(
        chart.customer_credits(hold.customer_id),
        chart.feature_revenue(hold.feature),
        Amount(hold.captured, CREDIT),
        source=FromHold(hold.draws),
    )
    key, reference = charge_key(hold_id), reference_to("hold", hold_id)
    posted = await post(
        session,
        Posting(TransactionKind.CHARGE, key, [spent], reference, memo or hold.feature),
    )
    await give_back(session, hold.returned)
    return posted


def charge_key(hold_id: int) -> bytes:
    """The key under which a capture books, so that it is booked once."""
    return digest16(b"hold", hold_id.to_bytes(8, "big"))


def hold_behind(reference: str, idempotency_key: bytes | None) -> int | None:
    """The hold that a booked charge captured, if it captured one."""
    hold_id = number_in(reference, "hold")
    # The charge of a feature that is called "hold" has a reference that looks alike.
    if hold_id is None or idempotency_key != charge_key(hold_id):
        return None
    return hold_id


async def release(session: WriteSession, hold_id: int) -> None:
    """Give the credits back. Raises ``UnknownHold`` or ``HoldAlreadySettled``."""
    hold = await _settle(session, hold_id, HoldState.RELEASED, captured=NO_CREDITS)
    await _free(session, {hold.customer_id: [hold]})


async def extend(session: WriteSession, hold_id: int, *, lifetime_seconds: int) -> None:
    """Let an open hold live at least so many seconds from now; never shorten it.

    Raises ``UnknownHold`` or ``HoldAlreadySettled``: a lapsed hold does not come back.
    """
    now = now_ms(session)
    wanted = now + lifetime_seconds * 1000
    expires = col(Hold.expires_at_ms)
    statement = (
        update(Hold)
        .where(*_settleable(hold_id, now))
        .values(expires_at_ms=case((expires > wanted, expires), else_=wanted))
        .execution_options(synchronize_session=False)
    )
    if not (await session.exec(statement)).rowcount:
        await _refuse(session, hold_id)


async def expire_due(
    session: WriteSession, *, customer_id: int | None = None, limit: int = 500
) -> int:
    """Close holds whose time is over, of one customer or of all; how many.

    Over all customers it leaves aside what somebody else is settling just now; for one
    customer it waits, because the caller needs to know what he has.
    """
    now = now_ms(session)
    lapsed = col(Hold.expires_at_ms) <= now
    oldest_first = (col(Hold.expires_at_ms), col(Hold.id))
    due = select(Hold.id).where(_OPEN, lapsed).order_by(*oldest_first).limit(limit)
    if customer_id is not None:
        due = due.where(col(Hold.customer_id) == customer_id)
    # Two sweepers that lock the same holds in different orders would deadlock. As a
    # plain subquery it could run once for each row, and lock more than the limit.
    batch = due.with_for_update(skip_locked=customer_id is None).cte("batch")
    statement = (
        update(Hold)
        .where(_OPEN, lapsed, col(Hold.id).in_(select(batch.c.id)))
        .values(state=HoldState.EXPIRED, settled_at_ms=now)
        .returning(*_SETTLED)
        .execution_options(synchronize_session=False)
    )
    freed: dict[int, list[_Settled]] = {}
    for hold in (_Settled(*row) for row in (await session.exec(statement)).all()):
        freed.setdefault(hold.customer_id, []).append(hold)
    await _free(session, freed)
    return sum(map(len, freed.values()))


async def is_open(session: ReadSession | WriteSession, hold_id: int) -> bool:
    """Whether the hold can still be captured."""
    live = _settleable(hold_id, now_ms(session))
    return (await session.exec(select(Hold.id).where(*live))).one_or_none() is not None


async def expire_lapsed_of(session: WriteSession, customer_id: int) -> int:
    """Close all the lapsed holds of a customer who would be short; how many."""
    return await expire_due(session, customer_id=customer_id, limit=_ALL_OF_ONE)


async def expire_lapsed_first(session: WriteSession, customer_id: int) -> None:
    """Have them closed in a transaction of its own; then the caller's begins anew.

    By now the caller's may have locked his balance or a limit, for which whoever is
    closing his holds waits. So it only looks, and goes on if there is nothing to close.
    """
    lapsed = (
        _OPEN,
        col(Hold.customer_id) == customer_id,
        col(Hold.expires_at_ms) <= now_ms(session),
    )
    some = await session.exec(select(Hold.id).where(*lapsed).limit(1))
    if some.one_or_none() is not None:
        write_first(session, partial(expire_lapsed_of, customer_id=customer_id))


def _settleable(hold_id: int, now: int) -> tuple[ColumnElement[bool], ...]:
    return (col(Hold.id) == hold_id, _OPEN, col(Hold.expires_at_ms) > now)


async def _settle(
    session: WriteSession,
    hold_id: int,
    state: HoldState,
    *,
    captured: MicroCredits | None,
) -> _Settled:
    now = now_ms(session)
    taken = col(Hold.amount) if captured is None else captured
    statement = (
        update(Hold)
        .where(*_settleable(hold_id, now), col(Hold.amount) >= taken)
        .values(state=state, captured=taken, settled_at_ms=now)
        .returning(*_SETTLED)
        .execution_options(synchronize_session=False)
    )
    row = (await session.exec(statement)).one_or_none()
    if row is None:
        await _refuse(session, hold_id, captured)
    return _Settled(*row)


async def _refuse(
    session: WriteSession, hold_id: int, wanted: MicroCredits | None = None
) -> NoReturn:
    query = select(Hold.state, Hold.amount, Hold.expires_at_ms)
    found = await session.exec(query.where(col(Hold.id) == hold_id))
    row = found.one_or_none()
    if row is None:
        raise UnknownHold(hold_id)
    state, amount, expires_at_ms = row
    is_open = state == HoldState.OPEN
    if is_open and expires_at_ms > now_ms(session) and (wanted or 0) > amount:
        raise HoldTooSmall(wanted or 0, amount)
    raise HoldAlreadySettled(
        hold_id, HoldState.EXPIRED if is_open else HoldState(state)
    )


async def _free(session: WriteSession, holds: dict[int, list[_Settled]]) -> None:
    """Return what was held to its lots, and what was taken to its limits."""

    def work(page: Page) -> None:
        for customer_id, settled in holds.items():
            for hold in settled:
                page.accounts[customer_id].unhold(hold.draws)

    if not holds:
        return
    named = [
        draw.lot_id
        for settled in holds.values()
        for one in settled
        for draw in one.draws
    ]
    await change(session, holds, work, now=now_ms(session), named=named)
    every = [
        taken for settled in holds.values() for one in settled for taken in one.returned
    ]
    await give_back(session, every)
