"""The checks of a payment by Permit2 that need no network.

Specification of the scheme "exact" on EVM, section 2, phase 3; the reasons are those
that the SDK's facilitators give.
"""

from tallystick.x402 import reasons
from tallystick.x402.errors import PaymentRejected
from tallystick.x402.exact_evm import (
    MAX_REMAINING_SECONDS,
    MIN_REMAINING_SECONDS,
    check_offer,
)
from tallystick.x402.permit2 import EXACT_PROXY, Permit2Authorization
from tallystick.x402.wire import PaymentPayload, PaymentTerms


def check_permit(
    payload: PaymentPayload,
    signed: Permit2Authorization,
    terms: PaymentTerms,
    *,
    now_seconds: int,
) -> None:
    """Whether the payment is for these terms and in time; says nothing of who signed.

    Raises ``PaymentRejected`` with the reason code of the first check that fails.
    """
    check_offer(payload, terms)
    _check_transfer(signed, terms)
    _check_window(signed, now_seconds)


def _check_transfer(signed: Permit2Authorization, terms: PaymentTerms) -> None:
    if signed.spender != EXACT_PROXY:
        raise PaymentRejected(
            reasons.PERMIT2_SPENDER, "spender is not x402's proxy for exact payments"
        )
    if signed.pay_to != terms.pay_to:
        raise PaymentRejected(
            reasons.PERMIT2_RECIPIENT, "witness.to is not the payee offered"
        )
    if signed.token != terms.asset:
        raise PaymentRejected(
            reasons.PERMIT2_TOKEN, "permitted.token is not the asset offered"
        )
    # An offer is positive and below 2**62, and so is an amount that equals it.
    if signed.value != terms.amount:
        raise PaymentRejected(
            reasons.PERMIT2_AMOUNT, "permitted.amount is not exactly the amount offered"
        )


def _check_window(signed: Permit2Authorization, now_seconds: int) -> None:
    if signed.valid_after > now_seconds:
        raise PaymentRejected(
            reasons.PERMIT2_NOT_YET_VALID,
            "witness.validAfter lies in the future; it may be 0",
        )
    remaining_seconds = signed.valid_before - now_seconds
    if remaining_seconds < MIN_REMAINING_SECONDS:
        raise PaymentRejected(
            reasons.PERMIT2_DEADLINE,
            f"deadline must be at least {MIN_REMAINING_SECONDS} seconds away",
        )
    if remaining_seconds > MAX_REMAINING_SECONDS:
        raise PaymentRejected(
            reasons.PERMIT2_DEADLINE,
            f"deadline must be at most {MAX_REMAINING_SECONDS} seconds away",
        )
