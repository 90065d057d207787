"""Payments by Permit2: what differs from an authorization of the token's own.

Only our relayers settle them (docs/decisions/0030).
"""

from typing import Final

from sqlalchemy import ColumnElement
from sqlmodel import col, select

from tallystick.chain.evidence import TransferLog
from tallystick.chain.permit2 import PERMIT2, allowance_to_permit2, permit_used
from tallystick.chain.rpc import Chain
from tallystick.chain.settlement import Refusal
from tallystick.chain.token import nonce_used
from tallystick.claims.claim import ClaimedMoney
from tallystick.claims.models import Claim
from tallystick.kernel.db import ReadSession, WriteSession
from tallystick.payments.models.chain import ChainTransfer, Presence, Redemption
from tallystick.payments.models.topups import Payment, TopUp
from tallystick.payments.rail import Rail
from tallystick.x402 import reasons
from tallystick.x402.errors import AllowanceMissing
from tallystick.x402.keccak import checksum_address

PERMIT_REASONS: Final = {
    Refusal.INSUFFICIENT_FUNDS: reasons.INSUFFICIENT_FUNDS,
    Refusal.NO_ALLOWANCE: reasons.PERMIT2_ALLOWANCE,
    Refusal.EXPIRED: reasons.PERMIT2_DEADLINE,
    Refusal.NOT_YET_VALID: reasons.PERMIT2_NOT_YET_VALID,
    Refusal.INVALID_SIGNATURE: reasons.PERMIT2_SIGNATURE,
    Refusal.BLACKLISTED: reasons.INVALID_TRANSACTION_STATE,
}
"""Refusals that end a top-up of which nothing is signed. Others may pass."""
_SAME_OF_PERMIT2: Final = {
    reasons.VALID_BEFORE: reasons.PERMIT2_DEADLINE,
    reasons.VALID_AFTER: reasons.PERMIT2_NOT_YET_VALID,
}


def is_permit(payment: Payment) -> bool:
    """Whether its payer signed for Permit2."""
    return isinstance(payment, TopUp) and payment.authority is not None


def reason_told(topup: TopUp) -> str | None:
    """Why it came to nothing, in the words of the method by which it was paid."""
    if topup.reason is None or not is_permit(topup):
        return topup.reason
    return _SAME_OF_PERMIT2.get(topup.reason, topup.reason)


async def is_used(chain: Chain, money: ClaimedMoney) -> bool:
    """Whether the nonce is gone, wherever it is kept.

    Raises ``TokenUnreadable``, ``RpcUnavailable``.
    """
    used = permit_used if money.token == PERMIT2 else nonce_used
    return await used(chain, money.payer, money.nonce)


async def is_permit_used(rail: Rail, money: ClaimedMoney | Claim) -> bool:
    """Whether the chain shows that a permit was used; never of another payment.

    Who settles a permit in a roundabout way publishes it, and the observer cannot tell.
    So a permit proves its payer only as long as its nonce is good. Raises
    ``TokenUnreadable``, ``RpcUnavailable``.
    """
    is_its = bytes(money.token) == PERMIT2
    return is_its and await permit_used(rail.chain, money.payer, money.nonce)


async def was_redeemed(
    session: ReadSession | WriteSession, chain_id: int, seen: TransferLog
) -> bool:
    """The same of what the chain shows, if it was then told as it is now."""
    redeemed = (
        select(Redemption.customer_id)
        .join(
            ChainTransfer,
            (col(ChainTransfer.id) == col(Redemption.chain_transfer_id))
            & (col(ChainTransfer.generation) == col(Redemption.generation)),
        )
        .where(
            col(ChainTransfer.chain_id) == chain_id,
            col(ChainTransfer.block_hash) == seen.block_hash,
            col(ChainTransfer.log_index) == seen.log_index,
            col(ChainTransfer.nonce).is_not_distinct_from(seen.nonce),
            col(ChainTransfer.presence) != Presence.GONE,
        )
    )
    return (await session.exec(redeemed)).one_or_none() is not None


async def is_redeemed(
    session: ReadSession | WriteSession, transfer_id: int, generation: int
) -> bool:
    """Whether a Transfer was credited to its sender as a plain one.

    A permit's may have been, if it was settled in a roundabout way.
    """
    redeemed = select(Redemption.customer_id).where(
        col(Redemption.chain_transfer_id) == transfer_id,
        col(Redemption.generation) == generation,
    )
    return (await session.exec(redeemed)).one_or_none() is not None


def is_redeemed_row() -> ColumnElement[bool]:
    """Of Transfers that are selected: that one was redeemed in its generation."""
    return (
        select(Redemption.customer_id)
        .where(
            col(Redemption.chain_transfer_id) == col(ChainTransfer.id),
            col(Redemption.generation) == col(ChainTransfer.generation),
        )
        .exists()
    )


async def require_allowance(rail: Rail, money: ClaimedMoney) -> None:
    """Raise ``AllowanceMissing`` unless Permit2 may move so much of the payer's.

    Or has moved it already: then the money is ours. Raises ``RpcUnavailable``.
    """
    if money.token != PERMIT2:
        return

    async def ask(node: Chain) -> bool:
        allowed = await allowance_to_permit2(node, money.payer)
        return allowed >= money.value or await is_used(node, money)

    if not await rail.chain.of_one_node(ask):
        raise allowance_missing(rail.domain.contract)


def allowance_missing(token: bytes) -> AllowanceMissing:
    """What a payer is told who has not approved Permit2."""
    return AllowanceMissing(
        reasons.PERMIT2_ALLOWANCE, checksum_address(token), checksum_address(PERMIT2)
    )
