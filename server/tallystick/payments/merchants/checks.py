"""Whether a payment to another seller can be settled now, asked of the chain."""

import asyncio

from tallystick.chain.relay import KEY_GAS_CAP
from tallystick.chain.rpc import Block
from tallystick.kernel.db import Database
from tallystick.payments.gas.budget import is_hopeless, is_merchant_over
from tallystick.payments.looking import rehearsal_of
from tallystick.payments.machine import Rehearsal
from tallystick.payments.merchants.errors import (
    PayeeNotAllowed,
    SettlementsUnavailable,
)
from tallystick.payments.merchants.registry import ProvenMerchant
from tallystick.payments.models.merchants import MerchantSettlement, SettlementState
from tallystick.payments.presented import require_signer
from tallystick.payments.rail import Rail
from tallystick.payments.ways import Way
from tallystick.x402 import reasons
from tallystick.x402.errors import PaymentRejected
from tallystick.x402.exact_evm import check_window
from tallystick.x402.settle_asked import Asked, check_terms

LEAST_SECONDS = 6
"""Of its window that must be left; stock facilitators want as much.

A seller's server has done its work between /verify and /settle, which takes time.
"""
_LONGEST_SECONDS = 15.0
_LOOKBACK_BLOCKS = 128
"""Deeper than any reorganisation above finalized that we expect."""


def require_payee(rail: Rail, merchant: ProvenMerchant, asked: Asked) -> None:
    """Raise ``PayeeNotAllowed`` unless the money goes to the merchant.

    Never to ourselves: whoever pays us has bought credits, by our own doors.
    """
    pay_to = asked.wanted.pay_to
    if pay_to == rail.pay_to or pay_to in rail.payees.retired_at_ms:
        raise PayeeNotAllowed("payTo is this server's own address")
    if pay_to not in merchant.payees:
        raise PayeeNotAllowed


async def check_asked(
    db: Database, rail: Rail, merchant: ProvenMerchant, asked: Asked
) -> MerchantSettlement:
    """The settlement as it would be stored, if the chain lets it succeed now.

    Raises ``PaymentRejected``, ``PayeeNotAllowed``, and ``SettlementsUnavailable`` or
    ``RpcUnavailable`` when nobody can tell; within 15 seconds.
    """
    require_payee(rail, merchant, asked)
    check_terms(asked, rail.domain)
    # By relayers alone, which is how permits are settled, too.
    obstacle = rail.settling_obstacle(Way.PERMIT2)
    if obstacle is not None:
        raise SettlementsUnavailable(obstacle)
    try:
        async with asyncio.timeout(_LONGEST_SECONDS):
            return await _check_on_chain(db, rail, merchant, asked)
    except TimeoutError:
        raise SettlementsUnavailable("the chain did not answer in time") from None


async def _check_on_chain(
    db: Database, rail: Rail, merchant: ProvenMerchant, asked: Asked
) -> MerchantSettlement:
    # What costs no node comes first: buyers are strangers.
    _check_window(rail, asked)
    await require_signer(rail, asked.payload)
    await _require_budgets(db, rail, merchant, asked.payload.authorization.payer)
    head = await rail.head()
    _check_window(rail, asked)
    draft = _draft(rail, merchant, asked, head)
    rehearsal, reason = await rehearsal_of(rail, draft)
    if rehearsal == Rehearsal.NONCE_USED:
        raise PaymentRejected(
            reasons.NONCE_ALREADY_USED, "the authorization was used or cancelled"
        )
    if rehearsal == Rehearsal.REFUSED:
        assert reason is not None
        raise PaymentRejected(reason, "the token would refuse the transfer now")
    if rehearsal != Rehearsal.OK:
        raise PaymentRejected(
            reasons.INVALID_TRANSACTION_STATE, "the transfer would fail now"
        )
    return draft


def _check_window(rail: Rail, asked: Asked) -> None:
    check_window(
        asked.payload.authorization,
        now_seconds=rail.now_seconds(),
        least_seconds=LEAST_SECONDS,
    )


async def _require_budgets(
    db: Database, rail: Rail, merchant: ProvenMerchant, payer: bytes
) -> None:
    price = rail.outlook.price
    wei = KEY_GAS_CAP * price.max_fee_per_gas if price else 0
    async with db.read() as session:
        if await is_hopeless(session, rail, payer, wei):
            raise PaymentRejected(
                reasons.INVALID_TRANSACTION_STATE,
                "too many payments of this wallet came to nothing today",
            )
        if await is_merchant_over(session, rail, merchant.id, wei):
            raise PaymentRejected(
                reasons.UNEXPECTED_SETTLE_ERROR,
                "the gas that may be spent for this seller today is used up",
            )


def _draft(
    rail: Rail, merchant: ProvenMerchant, asked: Asked, head: Block
) -> MerchantSettlement:
    signed = asked.payload.authorization
    return MerchantSettlement(
        id=0,
        merchant_id=merchant.id,
        chain_id=rail.domain.chain_id,
        token=rail.domain.contract,
        payer=signed.payer,
        pay_to=signed.pay_to,
        nonce=signed.nonce,
        value=signed.value,
        valid_after=signed.valid_after,
        valid_before=signed.valid_before,
        signature=asked.payload.signature,
        state=SettlementState.CLAIMED,
        # It was not used by now, so whatever used it comes later; a reorganisation may
        # put that below today's head.
        scan_from_block=max(0, head.number - _LOOKBACK_BLOCKS),
        created_at_ms=0,
        next_look_at_ms=0,
    )
