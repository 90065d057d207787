"""The checks of the exact scheme on EVM chains that need no network.

Specification of x402, section 6.1.2, and of the scheme "exact" on EVM. Cheap checks
come first; the signature is asked last, and the chain after that by other rooms.
"""

from dataclasses import dataclass
from typing import Final

from tallystick.x402 import reasons
from tallystick.x402.erc6492 import Factory, Wrapped, is_wrapped, unwrap
from tallystick.x402.errors import PaymentRejected
from tallystick.x402.permit2 import (
    Permit2Authorization,
    digest_of,
    signature_reason,
)
from tallystick.x402.signature import (
    ContractQuestion,
    MalformedSignature,
    Recovered,
    recover,
)
from tallystick.x402.wire import (
    EXACT,
    AcceptedTerms,
    Authorization,
    PaymentPayload,
    PaymentTerms,
    TokenDomain,
)

MIN_REMAINING_SECONDS: Final = 20
"""Time to settle; facilitators with 3 to 7 s lose payments."""

MAX_REMAINING_SECONDS: Final = 3600


def check_authorization(
    payload: PaymentPayload, terms: PaymentTerms, *, now_seconds: int
) -> None:
    """Whether the payment is for these terms and in time; says nothing of who signed.

    ``now_seconds`` is the time of the chain's head, or the clock's if that is later.
    Raises ``PaymentRejected`` with the reason code of the first check that fails.
    """
    check_offer(payload, terms)
    _check_transfer(payload.authorization, terms)
    check_window(payload.authorization, now_seconds=now_seconds)


def check_offer(payload: PaymentPayload, terms: PaymentTerms) -> None:
    """Whether the payment says that it is for these terms; raises ``PaymentRejected``."""
    if payload.scheme != EXACT:
        raise PaymentRejected(reasons.UNSUPPORTED_SCHEME, "scheme is not supported")
    if payload.network != terms.network:
        raise PaymentRejected(reasons.INVALID_NETWORK, "network is not the one offered")
    if payload.version == 2:
        _check_accepted(payload.accepted, terms)


def check_window(
    authorization: Authorization,
    *,
    now_seconds: int,
    least_seconds: int = MIN_REMAINING_SECONDS,
) -> None:
    """Whether the authorization is valid now and for 20 seconds to an hour more.

    ``least_seconds`` instead of 20 for who settles at once.

    Raises ``PaymentRejected``.
    """
    if authorization.valid_after > now_seconds:
        raise PaymentRejected(
            reasons.VALID_AFTER, "validAfter lies in the future; it may be 0"
        )
    remaining_seconds = authorization.valid_before - now_seconds
    if remaining_seconds < least_seconds:
        raise PaymentRejected(
            reasons.VALID_BEFORE,
            f"validBefore must be at least {least_seconds} seconds away",
        )
    if remaining_seconds > MAX_REMAINING_SECONDS:
        raise PaymentRejected(
            reasons.VALID_BEFORE,
            f"validBefore must be at most {MAX_REMAINING_SECONDS} seconds away",
        )


@dataclass(frozen=True, slots=True)
class ProvenPayer:
    """The payer's own key signed, so a payer without code is proven.

    One with code is an account that has delegated to a contract (EIP-7702). Its key may
    end that at any time, so it proves the account; but what the token takes is for
    the contract to say.
    """

    address: bytes


def prove_payer(
    payload: PaymentPayload,
    domain: TokenDomain,
    factories: frozenset[Factory] = frozenset(),
) -> ProvenPayer | ContractQuestion:
    """Who signed, or the question that only the chain can answer.

    The token routes by code: before anything of a payer with code (a contract wallet,
    an EIP-7702 account) is settled, the chain has the last word even on
    ``ProvenPayer``. ``factories`` are those that may deploy wallets (ERC-6492), each
    with the selector of the one function that does. Raises ``PaymentRejected`` for a
    signature that nobody may use.
    """
    signed = payload.authorization
    payer, reason = signed.payer, signature_reason(signed)
    digest = digest_of(domain, signed)
    if factories and is_wrapped(payload.signature):
        wrapped = _known(unwrap(payload.signature), factories)
        return ContractQuestion(payer, digest, wrapped.inner, deployment=wrapped)
    by_permit2 = isinstance(signed, Permit2Authorization)
    recovery = recover(digest, payload.signature, takes_compact=by_permit2)
    if isinstance(recovery, MalformedSignature):
        raise PaymentRejected(reason, f"signature {recovery.problem}")
    if isinstance(recovery, Recovered) and recovery.address == payer:
        return ProvenPayer(payer)
    problem = None if isinstance(recovery, Recovered) else recovery.problem
    return ContractQuestion(payer, digest, payload.signature, problem, reason=reason)


def _known(wrapped: Wrapped | None, factories: frozenset[Factory]) -> Wrapped:
    if wrapped is None:
        problem = "signature is not wrapped in the canonical form of ERC-6492"
    elif (wrapped.factory, wrapped.selector) not in factories:
        problem = "signature names a factory, or a function of it, that is not accepted"
    else:
        return wrapped
    raise PaymentRejected(reasons.SIGNATURE, problem)


def _check_accepted(accepted: AcceptedTerms | None, terms: PaymentTerms) -> None:
    ours = AcceptedTerms(
        scheme=EXACT,
        network=terms.network,
        amount=terms.amount,
        asset=terms.asset,
        pay_to=terms.pay_to,
        max_timeout_seconds=terms.max_timeout_seconds,
        extra=terms.full_extra(),
    )
    for name in AcceptedTerms.__slots__:
        if getattr(accepted, name, None) != getattr(ours, name):
            raise PaymentRejected(
                reasons.INVALID_PAYMENT_REQUIREMENTS,
                f"{name} in accepted is not what was offered",
            )


def _check_transfer(authorization: Authorization, terms: PaymentTerms) -> None:
    if authorization.pay_to != terms.pay_to:
        raise PaymentRejected(
            reasons.RECIPIENT_MISMATCH, "authorization.to is not the payee offered"
        )
    # An offer is positive and below 2**62, and so is a value that equals it.
    if authorization.value != terms.amount:
        raise PaymentRejected(
            reasons.VALUE, "authorization.value is not exactly the amount offered"
        )
