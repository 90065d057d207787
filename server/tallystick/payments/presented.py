"""A payment as it was presented, checked as far as possible without the chain."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from tallystick.chain.deployment import will_vouch
from tallystick.chain.token import is_valid_signature
from tallystick.claims.claim import ClaimedMoney, identifier_of
from tallystick.claims.errors import PaymentBoundElsewhere
from tallystick.kernel.seal import Seal
from tallystick.payments.errors import TopUpsUnavailable
from tallystick.payments.permits import is_used
from tallystick.payments.quotes import Quote, open_quote
from tallystick.payments.rail import Rail
from tallystick.payments.ways import Way
from tallystick.x402 import reasons
from tallystick.x402.erc6492 import Wrapped, is_wrapped
from tallystick.x402.errors import PaymentRejected
from tallystick.x402.exact_evm import (
    MIN_REMAINING_SECONDS,
    check_authorization,
    prove_payer,
)
from tallystick.x402.exact_permit2 import check_permit
from tallystick.x402.permit2 import (
    METHOD,
    METHOD_KEY,
    Permit2Authorization,
    authority_of,
    digest_of,
    signature_reason,
)
from tallystick.x402.signature import ContractQuestion
from tallystick.x402.wire import Authorization, PaymentPayload, PaymentTerms


@dataclass(frozen=True, slots=True)
class Presented:
    """A proven payment for a quote. Its signature is never stored unless it settles.

    ``identifier`` stands for the payer's own name of the payment, if it has one;
    ``by_contract`` tells that his contract has just said it signed, and ``is_wrapped``
    that the signature came with the deployment of that contract (ERC-6492).
    """

    authorization: Authorization
    signature: bytes = field(repr=False)
    quote: Quote
    money: ClaimedMoney
    identifier: bytes | None = None
    by_contract: bool = False
    is_wrapped: bool = False


def way_of(presented: Presented) -> Way:
    """By whom it is settled, if it is.

    A wallet that has been deployed since it signed needs no deployer any more.
    """
    if isinstance(presented.authorization, Permit2Authorization):
        return Way.PERMIT2
    return Way.ERC6492 if is_wrapped(presented.signature) else Way.EIP3009


_BY_PERMIT2 = {METHOD_KEY: METHOD}
_HONOURED_MS = 300_000
"""How long a payment without a quote may still name the address offered before."""


def terms_of(
    rail: Rail, quote: Quote, token: str, *, by_permit2: bool = False
) -> PaymentTerms:
    """The entry of ``accepts`` that offers the quote, to the address that it names.

    ``by_permit2`` for the entry that is paid by Permit2. One that never was ours
    (another ledger's, with the same secret) is not believed.
    """
    named = bytes.fromhex(quote.pay_to)
    pay_to = named if named in rail.payees.retired_at_ms else rail.pay_to
    extra = {"quote": token} | (_BY_PERMIT2 if by_permit2 else {})
    return PaymentTerms(rail.domain, quote.usdc, pay_to, rail.offer_seconds, extra)


async def check_payment(
    rail: Rail,
    seal: Seal,
    payload: PaymentPayload,
    current: Sequence[Quote],
    *,
    used_at: int | None = None,
) -> Presented:
    """The payment if it fits a quote for this very request and its payer signed it.

    ``current`` is what we would offer now, and for version 1 what we offered lately: a
    payment that brings no quote of its own must fit one of those, and if it fits
    several its payer gets the best. ``used_at`` is the time in seconds at which its
    authorization was used, if it was: by then the quote must have been good, and the
    window was judged by the token. Raises ``PaymentRejected``,
    ``PaymentBoundElsewhere`` for another request's quote, and ``RpcUnavailable`` when
    a contract wallet must be asked and cannot be.
    """
    signed = payload.authorization
    if isinstance(signed, Permit2Authorization) and not rail.offers_permit2:
        raise PaymentRejected(
            reasons.INVALID_PAYMENT_REQUIREMENTS,
            "payments by Permit2 are not taken here; sign an EIP-3009 authorization",
        )
    now = rail.now_seconds() if used_at is None else used_at
    token = _quote_token(payload)
    proven = None
    if token is None:
        # What would be offered now tells the payer's credits, so he is proven first.
        proven = await require_signer(rail, payload, may_deploy=True)
    quote, terms = _quoted(rail, seal, token, signed, current, now_seconds=now)
    if used_at is not None:
        now = min(used_at, signed.valid_before - MIN_REMAINING_SECONDS)
    if isinstance(signed, Permit2Authorization):
        check_permit(payload, signed, terms, now_seconds=now)
    else:
        check_authorization(payload, terms, now_seconds=now)
    if quote.binding != current[0].binding:
        raise PaymentBoundElsewhere
    if proven is None:
        proven = await require_signer(rail, payload, may_deploy=True)
    return Presented(
        signed,
        proven.signature,
        quote,
        money_of(rail, signed, current[0].binding),
        identifier_of(payload.identifier),
        proven.by_contract,
        is_wrapped(payload.signature),
    )


def _quote_token(payload: PaymentPayload) -> str | None:
    token = payload.accepted.extra.get("quote") if payload.accepted else None
    return token if isinstance(token, str) else None


def _quoted(
    rail: Rail,
    seal: Seal,
    token: str | None,
    signed: Authorization,
    current: Sequence[Quote],
    *,
    now_seconds: int,
) -> tuple[Quote, PaymentTerms]:
    by_permit2 = isinstance(signed, Permit2Authorization)
    if token is not None:
        quote = open_quote(seal, token, now_seconds=now_seconds)
        return quote, terms_of(rail, quote, token, by_permit2=by_permit2)
    fitting = [one for one in current if one.usdc == signed.value]
    quote = max(fitting, key=_worth, default=current[0])
    retired_at_ms = rail.payees.retired_at_ms.get(signed.pay_to)
    is_late = retired_at_ms is None or (
        rail.clock.now_ms() > retired_at_ms + _HONOURED_MS
    )
    pay_to = rail.pay_to if is_late else signed.pay_to
    extra = _BY_PERMIT2 if by_permit2 else {}
    plain = PaymentTerms(rail.domain, quote.usdc, pay_to, rail.offer_seconds, extra)
    return quote, plain


def _worth(quote: Quote) -> int:
    """What is left of the credits once the request is paid."""
    return quote.credits + quote.bonus - quote.charge


def money_of(rail: Rail, signed: Authorization, binding: str) -> ClaimedMoney:
    """What the authorization claims, for the request that ``binding`` stands for."""
    return ClaimedMoney(
        chain_id=rail.domain.chain_id,
        token=authority_of(rail.domain, signed),
        payer=signed.payer,
        nonce=signed.nonce,
        value=signed.value,
        valid_after=signed.valid_after,
        valid_before=signed.valid_before,
        binding=bytes.fromhex(binding),
    )


@dataclass(frozen=True, slots=True)
class Proven:
    """The signature to settle with, and whether a contract said that it is good.

    That of a wallet which has been deployed meanwhile is unwrapped.
    """

    signature: bytes = field(repr=False)
    by_contract: bool = False


async def require_signer(
    rail: Rail, payload: PaymentPayload, *, may_deploy: bool = False
) -> Proven:
    """Raise ``PaymentRejected`` unless the payer signed the payment.

    A contract wallet is asked, so also ``RpcUnavailable``. ``may_deploy`` is for
    payments that will be settled: one that is not deployed yet proves nothing else.
    """
    is_permit = isinstance(payload.authorization, Permit2Authorization)
    factories = rail.factories if may_deploy and not is_permit else frozenset()
    proof = prove_payer(payload, rail.domain, factories)
    if not isinstance(proof, ContractQuestion):
        return Proven(payload.signature)
    if proof.deployment is None or await rail.chain.code_at(proof.wallet):
        await ask_wallet(rail, proof)
        return Proven(proof.signature, by_contract=True)
    await _ask_undeployed(rail, proof, proof.deployment)
    return Proven(payload.signature, by_contract=True)


async def _ask_undeployed(
    rail: Rail, question: ContractQuestion, deployment: Wrapped
) -> None:
    obstacle = rail.settling_obstacle(Way.ERC6492)
    if obstacle is not None:
        raise TopUpsUnavailable(obstacle)
    signed = await will_vouch(
        rail.chain, question.wallet, question.digest, question.signature, deployment
    )
    if not signed:
        raise PaymentRejected(
            reasons.SIGNATURE, "the payer's wallet, once deployed, did not sign this"
        )


async def ask_wallet(rail: Rail, question: ContractQuestion) -> None:
    """Let a contract wallet say whether it signed (EIP-1271).

    Raises ``PaymentRejected``, or ``RpcUnavailable`` when nobody can be asked.
    """
    # An address without code has no contract to ask, so nobody signed.
    signed = await is_valid_signature(
        rail.chain, question.wallet, question.digest, question.signature
    )
    if not signed:
        raise PaymentRejected(question.reason, question.refusal)


async def require_code_agrees(rail: Rail, presented: Presented) -> None:
    """Let the contract that the payer's account has delegated to say so as well.

    The token asks whoever has code and no key any more (EIP-7702), so what the key
    alone signed would cost us a revert. Raises ``PaymentRejected`` or
    ``RpcUnavailable``.
    """
    signed = presented.authorization
    if presented.by_contract or not await rail.chain.code_at(signed.payer):
        return
    question = ContractQuestion(
        signed.payer,
        digest_of(rail.domain, signed),
        presented.signature,
        "is the key's, and the payer's account has delegated to a contract",
        reason=signature_reason(signed),
    )
    try:
        await ask_wallet(rail, question)
    except PaymentRejected:
        # Taken by the token before the account was delegated: then the money is ours.
        if not await is_used(rail.chain, presented.money):
            raise
