"""Opening top-ups, and reading them."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, text
from sqlmodel import col, select

from tallystick.claims.claim import forget_claims, overtake
from tallystick.claims.models import Claim
from tallystick.kernel.db import ReadSession, WriteSession, insert_once, new_id, now_ms
from tallystick.kernel.ids import encode_id
from tallystick.kernel.money import MicroCredits, to_decimal
from tallystick.ledger.references import number_in
from tallystick.payments.errors import UnknownTopUp
from tallystick.payments.machine import CLOSED
from tallystick.payments.models.topups import (
    PAID_STATES,
    RelayedTransaction,
    SettleAttempt,
    TopUp,
    TopUpState,
)
from tallystick.payments.presented import Presented
from tallystick.x402.keccak import checksum_address
from tallystick.x402.permit2 import Permit2Authorization


@dataclass(frozen=True, slots=True)
class Opening:
    """Whether a top-up may be settled now or waits behind another of its wallet."""

    topup_id: int
    in_flight: bool


async def open_topup(
    session: WriteSession,
    claim: Claim,
    presented: Presented,
    *,
    pay_to: bytes,
    scan_from_block: int,
    may_queue: bool,
) -> Opening | None:
    """A top-up for the claim: in flight if its wallet has none, else queued.

    ``None``, and nothing written, when it would have to queue and may not.
    """
    row = _row(session, claim, presented, pay_to, scan_from_block)
    if await insert_once(session, TopUp, row | {"in_flight": True}):
        return Opening(row["id"], in_flight=True)
    if not may_queue:
        return None
    inserted = await insert_once(session, TopUp, row | {"in_flight": False})
    assert inserted, "the claim's state lets only one caller open its top-up"
    return Opening(row["id"], in_flight=False)


def _row(
    session: WriteSession,
    claim: Claim,
    presented: Presented,
    pay_to: bytes,
    scan_from_block: int,
) -> dict[str, Any]:
    now = now_ms(session)
    quote, signed = presented.quote, presented.authorization
    token, authority = claim.token, None
    if isinstance(signed, Permit2Authorization):
        token, authority = signed.token, claim.token
    return {
        "id": new_id(session),
        "claim_id": claim.id,
        "customer_id": claim.customer_id,
        "chain_id": claim.chain_id,
        "token": token,
        "authority": authority,
        "payer": claim.payer,
        "pay_to": pay_to,
        "nonce": claim.nonce,
        "value": claim.value,
        "valid_after": claim.valid_after,
        "valid_before": claim.valid_before,
        "signature": presented.signature,
        "credits": quote.credits,
        "bonus": quote.bonus,
        "catalog_version": quote.catalog_version,
        "purpose": quote.purpose,
        "state": TopUpState.CLAIMED,
        "generation": 1,
        "scan_from_block": scan_from_block,
        "created_at_ms": now,
        "next_look_at_ms": now,
    }


async def adopt_claim(
    session: WriteSession,
    found: Claim,
    *,
    token: bytes,
    pay_to: bytes,
    credits_bought: MicroCredits,
    catalog_version: str,
    scan_from_block: int,
) -> TopUp | None:
    """A top-up for a claim that never became one, although its money arrived.

    Somebody else submitted an authorization that we had waived, or had not decided on:
    the evidence wins and its payer gets the credits. The claim is kept from now on,
    because the top-up stands on it. None when a request decided it meanwhile.
    """
    if not await overtake(session, found.id):
        return None
    return await open_found(
        session,
        found,
        token=token,
        pay_to=pay_to,
        credits_bought=credits_bought,
        catalog_version=catalog_version,
        scan_from_block=scan_from_block,
        purpose="submitted by another",
    )


async def open_found(
    session: WriteSession,
    found: Claim,
    *,
    token: bytes,
    pay_to: bytes,
    credits_bought: MicroCredits,
    catalog_version: str,
    scan_from_block: int,
    purpose: str,
) -> TopUp:
    """A top-up for money that is on the chain already, whose signature we do not keep.

    The claim must be one that is kept for ever: the top-up stands on it.
    """
    now = now_ms(session)
    topup = TopUp(
        id=new_id(session),
        claim_id=found.id,
        customer_id=found.customer_id,
        chain_id=found.chain_id,
        token=token,
        authority=None if found.token == token else found.token,
        payer=found.payer,
        pay_to=pay_to,
        nonce=found.nonce,
        value=found.value,
        valid_after=found.valid_after,
        valid_before=found.valid_before,
        signature=None,
        credits=credits_bought,
        bonus=0,
        catalog_version=catalog_version,
        purpose=purpose,
        state=TopUpState.WATCH,
        generation=1,
        in_flight=False,
        scan_from_block=scan_from_block,
        created_at_ms=now,
        next_look_at_ms=now,
    )
    session.add(topup)
    await session.flush()
    return topup


async def prune_unsent(
    session: WriteSession, *, before_seconds: int, limit: int = 1000
) -> int:
    """Forget top-ups that came to nothing and that we never sent, with their claims.

    How many, of those whose window closed before that time. Every block in which
    somebody else could have submitted them is read: the caller sees to that.
    """
    # As the index has it.
    came_to_nothing = text("topup.state IN ('rejected', 'expired', 'canceled')")
    sent = select(RelayedTransaction.tx_hash).where(
        col(RelayedTransaction.topup_id) == col(TopUp.id)
    )
    asked = select(SettleAttempt.attempt).where(
        col(SettleAttempt.topup_id) == col(TopUp.id)
    )
    query = select(TopUp.id, TopUp.claim_id).where(
        came_to_nothing,
        col(TopUp.valid_before) < before_seconds,
        # What an operator has closed is named in his acts, and its money may be here.
        col(TopUp.reason).is_distinct_from(CLOSED),
        # What was credited once has its Transfers, though they are gone.
        col(TopUp.generation) == 1,
        ~sent.exists(),
        ~asked.exists(),
    )
    oldest_first = query.order_by(col(TopUp.valid_before)).limit(limit)
    # Whoever credits one of them meanwhile keeps it.
    rows = (await session.exec(oldest_first.with_for_update(skip_locked=True))).all()
    if rows:
        ids = [topup_id for topup_id, _ in rows]
        await session.exec(delete(TopUp).where(col(TopUp.id).in_(ids)))
        await forget_claims(session, [claim_id for _, claim_id in rows])
    return len(rows)


async def read_topup(session: ReadSession | WriteSession, topup_id: int) -> TopUp:
    """The top-up; raises ``UnknownTopUp``."""
    query = select(TopUp).where(col(TopUp.id) == topup_id)
    found = (await session.exec(query)).one_or_none()
    if found is None:
        raise UnknownTopUp(topup_id)
    return found


async def payment_behind(
    session: ReadSession, customer_id: int, reference: str
) -> TopUp | None:
    """The customer's top-up that a booked transaction's reference names, if one."""
    topup_id = number_in(reference, "topup")
    if topup_id is None:
        return None
    query = select(TopUp).where(
        col(TopUp.id) == topup_id, col(TopUp.customer_id) == customer_id
    )
    return (await session.exec(query)).one_or_none()


async def topup_of_claim(
    session: ReadSession | WriteSession, claim_id: int
) -> TopUp | None:
    """The top-up that the claim became, if it did."""
    query = select(TopUp).where(col(TopUp.claim_id) == claim_id)
    return (await session.exec(query)).one_or_none()


async def provisional_credits(
    session: ReadSession | WriteSession, customer_id: int
) -> MicroCredits:
    """Micro-credits whose payment is in a block that is not yet safe."""
    bought = func.coalesce(func.sum(col(TopUp.credits) + col(TopUp.bonus)), 0)
    query = select(bought).where(
        col(TopUp.customer_id) == customer_id,
        col(TopUp.state) == TopUpState.CREDITED,
    )
    return MicroCredits(int((await session.exec(query)).one()))


def public_facts(topup: TopUp) -> dict[str, Any]:
    """What anybody may know: it is on the chain, or follows from the price list.

    No balance, and nothing of the customer.
    """
    facts: dict[str, Any] = {
        "id": encode_id("top", topup.id),
        "state": topup.state,
        "network": f"eip155:{topup.chain_id}",
        "payer": checksum_address(topup.payer),
        "nonce": f"0x{topup.nonce.hex()}",
        "usdc": to_decimal(topup.value),
        "amount": str(topup.value),
        "credits": to_decimal(topup.credits + topup.bonus),
    }
    if topup.tx_hash is not None:
        facts["transaction"] = f"0x{topup.tx_hash.hex()}"
        facts["block"] = topup.block_number
    if topup.reason is not None and topup.state not in PAID_STATES:
        facts["reason"] = topup.reason
    return facts
