"""Claiming an authorization, and deciding once what it is used for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, delete, text, update
from sqlmodel import col, select

from tallystick.claims.errors import (
    PaymentBoundElsewhere,
    PaymentIdentifierReused,
)
from tallystick.claims.models import Claim, ClaimState
from tallystick.kernel.crash_points import CrashPoint, reached
from tallystick.kernel.db import ReadSession, WriteSession, insert_once, new_id, now_ms
from tallystick.kernel.money import MicroCredits
from tallystick.kernel.seal import digest16

# Spelled out, so that a plan made for any state still uses their index.
_UNSETTLED = text("claim.state IN ('waived', 'claimed')")
_SIZES = {"token": 20, "payer": 20, "nonce": 32, "binding": 16}


@dataclass(frozen=True, slots=True)
class ClaimedMoney:
    """An authorization in canonical bytes, and the request it came with.

    ``token`` is the contract that lets its nonce be used once: the token, or Permit2.
    The caller has checked the amount and the window; ``value`` is atomic USDC, the
    window is in seconds.
    """

    chain_id: int
    token: bytes
    payer: bytes
    nonce: bytes
    value: int
    valid_after: int
    valid_before: int
    binding: bytes

    def __post_init__(self) -> None:
        for name, size in _SIZES.items():
            if len(getattr(self, name)) != size:
                raise ValueError(f"{name} is {size} bytes in canonical form")


@dataclass(frozen=True, slots=True)
class Use:
    """What the request that brings an authorization wants.

    ``charge`` is micro-credits, 0 for a purchase of credits; ``wait_ms`` is how long
    the request waits for the decision. ``identifier`` is what ``identifier_of`` makes.
    """

    customer_id: int
    feature: str
    charge: MicroCredits
    wait_ms: int
    identifier: bytes | None = None


def identifier_of(name: str | None) -> bytes | None:
    """16 bytes that stand for the payer's own name of a payment."""
    return None if name is None else digest16(b"payment-identifier", name.encode())


async def claim(
    session: WriteSession,
    money: ClaimedMoney,
    use: Use,
    *,
    state: ClaimState,
    hold_id: int | None = None,
) -> Claim | None:
    """Insert the claim in the given state; ``None`` when it exists already.

    The row count of one INSERT decides, so of a thousand copies one gets the claim.
    Raises ``PaymentIdentifierReused`` when another payment of the payer's has its name.
    """
    now = now_ms(session)
    row: dict[str, Any] = {
        "id": new_id(session),
        "chain_id": money.chain_id,
        "token": money.token,
        "payer": money.payer,
        "nonce": money.nonce,
        "value": money.value,
        "valid_after": money.valid_after,
        "valid_before": money.valid_before,
        "binding": money.binding,
        "customer_id": use.customer_id,
        "state": state,
        "charge": use.charge,
        "feature": use.feature,
        "hold_id": hold_id,
        "waiting_until_ms": now + use.wait_ms,
        "claimed_at_ms": now,
        "identifier": use.identifier,
    }
    inserted = await insert_once(session, Claim, row)
    reached(CrashPoint.CLAIM_UNCOMMITTED)
    if inserted:
        return Claim(**row)
    if use.identifier is not None:
        await _require_own_name(session, money, use.identifier)
    return None


async def _require_own_name(
    session: WriteSession, money: ClaimedMoney, identifier: bytes
) -> None:
    """Find out which of the two unique keys was in the way."""
    query = select(Claim.chain_id, Claim.token, Claim.nonce).where(
        col(Claim.payer) == money.payer, col(Claim.identifier) == identifier
    )
    named = (await session.exec(query)).one_or_none()
    ours = (money.chain_id, money.token, money.nonce)
    if named is not None and (named[0], bytes(named[1]), bytes(named[2])) != ours:
        raise PaymentIdentifierReused


async def find_claim(
    session: ReadSession | WriteSession, money: ClaimedMoney
) -> Claim | None:
    """The claim on this money, whatever its state.

    Raises ``PaymentBoundElsewhere`` when the nonce was claimed by another request or
    with another value or window. Of a claim that was made for what the chain showed
    only the value is known.
    """
    query = select(Claim).where(
        col(Claim.chain_id) == money.chain_id,
        col(Claim.token) == money.token,
        col(Claim.payer) == money.payer,
        col(Claim.nonce) == money.nonce,
    )
    # Read anew: the session may know the row from before somebody decided it.
    query = query.execution_options(populate_existing=True)
    found = (await session.exec(query)).one_or_none()
    if found is not None and not _is_of(found, money):
        raise PaymentBoundElsewhere
    return found


def _is_of(found: Claim, money: ClaimedMoney) -> bool:
    if not found.valid_before:  # never presented
        return found.value == money.value
    return _terms(found) == _terms(money)


async def decide(
    session: WriteSession,
    claim_id: int,
    state: ClaimState,
    *,
    hold_id: int | None = None,
) -> bool:
    """Turn CLAIMED into WAIVED or SETTLING; whether this call did it.

    A ``Claim`` read before keeps its old state; find it again to see the new one.
    """
    undecided = col(Claim.state) == ClaimState.CLAIMED
    return await _update(session, claim_id, undecided, state=state, hold_id=hold_id)


async def overtake(session: WriteSession, claim_id: int) -> bool:
    """Turn CLAIMED or WAIVED into OVERTAKEN, as the money has moved; whether it did.

    A top-up now stands on the claim, so it must be kept for ever.
    """
    unsettled = col(Claim.state).in_((ClaimState.CLAIMED, ClaimState.WAIVED))
    return await _update(session, claim_id, unsettled, state=ClaimState.OVERTAKEN)


async def _update(
    session: WriteSession, claim_id: int, guard: ColumnElement[bool], **values: object
) -> bool:
    statement = update(Claim).where(col(Claim.id) == claim_id, guard).values(**values)
    # No object in memory may pretend a change that the database refused.
    statement = statement.execution_options(synchronize_session=False)
    return (await session.exec(statement)).rowcount == 1


async def take_over(session: WriteSession, claim_id: int, *, wait_ms: int) -> bool:
    """Wait for an undecided claim whose own request is gone; whether this call may.

    A process that died leaves such claims behind: nothing was promised for them.
    """
    now = now_ms(session)
    undecided = col(Claim.state) == ClaimState.CLAIMED
    abandoned = undecided & (col(Claim.waiting_until_ms) < now)
    return await _update(session, claim_id, abandoned, waiting_until_ms=now + wait_ms)


async def abandon(session: WriteSession, claim_id: int) -> bool:
    """Make sure that an undecided claim whose own request is gone is never settled.

    Whether this call did. It becomes WAIVED without a hold: nothing was promised.
    """
    undecided = col(Claim.state) == ClaimState.CLAIMED
    gone = undecided & (col(Claim.waiting_until_ms) < now_ms(session))
    return await _update(session, claim_id, gone, state=ClaimState.WAIVED)


async def read_claim(
    session: ReadSession | WriteSession, claim_id: int
) -> Claim | None:
    """The claim; None when it was waived and is pruned."""
    query = select(Claim).where(col(Claim.id) == claim_id)
    # Read anew: the session may know the row from before somebody decided it.
    query = query.execution_options(populate_existing=True)
    return (await session.exec(query)).one_or_none()


async def prune_unsettled(
    session: WriteSession, *, before_seconds: int, limit: int = 1000
) -> int:
    """Forget waived and undecided claims whose window closed before that time.

    How many. What was settled is kept for ever. The caller leaves a margin and judges
    by the later of the chain's and the machine's clock.
    """
    old = (_UNSETTLED, col(Claim.valid_before) < before_seconds)
    oldest_first = (col(Claim.valid_before), col(Claim.id))
    some = select(Claim.id).where(*old).order_by(*oldest_first).limit(limit)
    # As a plain subquery PostgreSQL could run it once for each row.
    batch = some.with_for_update(skip_locked=True).cte("batch")
    statement = (
        delete(Claim)
        .where(*old, col(Claim.id).in_(select(batch.c.id)))
        # SQLite's driver knows no row count of a statement that begins with WITH.
        .returning(col(Claim.id))
        .execution_options(synchronize_session=False)
    )
    return len((await session.exec(statement)).all())


async def forget_claims(session: WriteSession, claim_ids: Sequence[int]) -> None:
    """Forget claims of which the caller knows that they will never be settled."""
    await session.exec(delete(Claim).where(col(Claim.id).in_(claim_ids)))


def _terms(one: Claim | ClaimedMoney) -> Sequence[object]:
    return (one.value, one.valid_after, one.valid_before, bytes(one.binding))
