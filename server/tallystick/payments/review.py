"""Top-ups that a person must judge, and how one goes on.

A top-up is quarantined when what is known of it contradicts itself. Nobody can credit it
by hand: an operator finds out what was wrong (a provider that lies, say), mends it, and
has the top-up looked at again. Then evidence decides, as ever; contradictory evidence
brings it back. Or he closes it, when no evidence will ever end it.
"""

from dataclasses import dataclass

from sqlalchemy import update
from sqlmodel import col, select

from tallystick.kernel.db import ReadSession, WriteSession, now_ms
from tallystick.kernel.errors import Conflict
from tallystick.kernel.ids import encode_id
from tallystick.payments.machine import (
    CLOSED,
    CONTRADICTED,
    CONTRADICTORY,
    EDGES,
    ELSEWHERE,
    HIDDEN,
    LOOKED_AT_AGAIN,
    UNCLEAR,
)
from tallystick.payments.models.chain import ChainTransfer
from tallystick.payments.models.topups import TopUp, TopUpState
from tallystick.payments.topups import read_topup

_REMEDIES = {
    CONTRADICTED: (
        "Two providers show different chains. Compare both with a block explorer, take"
        " the wrong one out of RPC_URLS or WITNESS_RPC_URLS, restart, and release it."
    ),
    CONTRADICTORY: (
        "The payer used the authorization's nonce for another amount. What came is in"
        " suspense, and he can redeem it by the hash of its transaction, which ends this"
        " top-up. Release it only if a provider was wrong about the amount; close it if"
        " nobody will redeem."
    ),
    UNCLEAR: (
        "The permit's nonce is used, and a Transfer of the same amount may be its own or"
        " another permit's. Its payer can redeem the Transfer by the hash of its"
        " transaction; once nothing is left that may be its own, the top-up ends. Release"
        " it only if a provider was wrong."
    ),
    HIDDEN: (
        "The token calls the authorization used, and the provider has no log of it. Take"
        " it out of RPC_URLS, restart, and release the top-up. What else it kept back is"
        " read again by itself; `tallystick reconcile` tells what is left."
    ),
    ELSEWHERE: (
        "A provider told its Transfer otherwise before, and somebody else was credited"
        " with it. Look the transaction up in a block explorer. If it shows this payer"
        " and this nonce, release the top-up: its Transfer is moved to it, and taken"
        " back where it was. If it does not, take the provider out of RPC_URLS, restart,"
        " and release it then. What was paid back meanwhile is not moved: close the"
        " top-up."
    ),
}
_LOOK = "Compare its transaction with a block explorer before it is released."


class NotUnderReview(Conflict):
    """Only what is in quarantine can be released from it."""

    is_for_operators = True
    title = "This top-up is not in quarantine"
    next_step = "List what is: `tallystick review list`."

    def __init__(self, topup: TopUp) -> None:
        name = encode_id("top", topup.id)
        super().__init__(f"{name} is {topup.state}", state=topup.state)


@dataclass(frozen=True, slots=True)
class UnderReview:
    """A top-up in quarantine, with what the chain has shown for its authorization.

    ``arrived`` are Transfers to us that used the payer's nonce and lie in suspense.
    """

    topup: TopUp
    arrived: tuple[ChainTransfer, ...]

    @property
    def remedy(self) -> str:
        """What a person should do."""
        return _REMEDIES.get(self.topup.reason or "", _LOOK)


async def under_review(session: ReadSession) -> list[UnderReview]:
    """All that is in quarantine, oldest first."""
    query = (
        select(TopUp)
        .where(col(TopUp.state) == TopUpState.QUARANTINE)
        .order_by(col(TopUp.id))
    )
    found = (await session.exec(query)).all()
    return [UnderReview(one, await _arrived(session, one)) for one in found]


async def _arrived(session: ReadSession, topup: TopUp) -> tuple[ChainTransfer, ...]:
    query = select(ChainTransfer).where(
        col(ChainTransfer.sender) == topup.payer,
        col(ChainTransfer.nonce) == topup.nonce,
        col(ChainTransfer.authority).is_not_distinct_from(topup.authority),
        col(ChainTransfer.chain_id) == topup.chain_id,
        col(ChainTransfer.topup_id).is_(None),
    )
    return tuple((await session.exec(query)).all())


async def look_again(session: WriteSession, topup_id: int) -> TopUp:
    """Have a quarantined top-up looked at again; it as it was before.

    Raises ``UnknownTopUp``, and ``NotUnderReview`` when it is in no quarantine.
    """
    return await _release(session, topup_id, TopUpState.WATCH, LOOKED_AT_AGAIN)


async def close(session: WriteSession, topup_id: int) -> TopUp:
    """End a quarantined top-up that brings nothing; it as it was before.

    A Transfer of its authorization that arrives all the same is its payer's to redeem.
    Raises as ``look_again`` does.
    """
    return await _release(session, topup_id, TopUpState.CANCELED, CLOSED)


async def _release(
    session: WriteSession, topup_id: int, after: TopUpState, reason: str
) -> TopUp:
    topup = await read_topup(session, topup_id)
    assert after in EDGES[TopUpState.QUARANTINE]
    released = await session.exec(
        update(TopUp)
        .where(col(TopUp.id) == topup_id, col(TopUp.state) == TopUpState.QUARANTINE)
        .values(state=after, reason=reason, next_look_at_ms=now_ms(session))
        .execution_options(synchronize_session=False)
    )
    if released.rowcount != 1:
        raise NotUnderReview(topup)
    return topup
