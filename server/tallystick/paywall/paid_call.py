"""A payment, proven, with the request that it came with."""

from dataclasses import dataclass

from tallystick.claims.claim import Use
from tallystick.claims.models import Claim
from tallystick.credits.holds import place
from tallystick.kernel.db import WriteSession
from tallystick.metering.charges import Usage
from tallystick.payments.models.topups import TopUp
from tallystick.payments.observing.matching import seen_on_chain
from tallystick.payments.presented import Presented
from tallystick.paywall import answers
from tallystick.paywall.answers import AnswerKey
from tallystick.paywall.facts import Facts
from tallystick.paywall.gate import Gate
from tallystick.paywall.verdicts import PaidBy, Serve

_LATE_MS = 1_000
"""A grant may come in the last moment of the waiting; its hold must not be missed."""
_WAIVABLE_SECONDS = 120
"""A payment that proves its wallet for longer is no proof for one call."""


@dataclass(frozen=True, slots=True)
class PaidCall:
    """``customer_id`` is None for a wallet that has never paid.

    ``own`` is the caller's Idempotency-Key once this request has begun it, and
    ``is_public`` tells that the chain shows what was signed.
    """

    gate: Gate
    facts: Facts
    presented: Presented
    version: int
    customer_id: int | None
    own: AnswerKey | None = None
    is_public: bool = False

    @property
    def may_waive(self) -> bool:
        """Whether credits may pay instead: the payer signed for at least as much.

        Never for a wallet that comes with its deployment (ruling 3): it is no proof
        of what stands on the chain.
        """
        if self.presented.is_wrapped or self.is_public:
            return False
        quote = self.presented.quote
        left = self.presented.money.valid_before - self.gate.rail.now_seconds()
        return quote.charge <= quote.credits and left <= _WAIVABLE_SECONDS

    @property
    def claim_ms(self) -> int:
        """How long the claim's charge is kept for this request."""
        return self.facts.wait_ms + _LATE_MS if self.facts.wait_ms else 0

    def use(self, customer_id: int) -> Use:
        return Use(
            customer_id,
            self.facts.feature.slug,
            self.presented.quote.charge,
            self.claim_ms,
            self.presented.identifier,
        )

    def waived(self, made: Claim, hold_id: int, copies: AnswerKey) -> Serve:
        """Credits pay; ``copies`` is where copies of the payment find the answer."""
        return self._serve(made, hold_id, PaidBy(*self._payer(made)), copies)

    def settled(self, made: Claim, hold_id: int, topup: TopUp) -> Serve:
        """The payment bought credits, and they pay."""
        # A settled header is public, so its copies never get the answer.
        return self._serve(
            made, hold_id, PaidBy(*self._payer(made), topup.tx_hash, topup.value)
        )

    def _payer(self, made: Claim) -> tuple[bytes, str, int]:
        return made.payer, self.gate.rail.network, self.version

    def _serve(
        self, made: Claim, hold_id: int, paid_by: PaidBy, *keys: AnswerKey
    ) -> Serve:
        usage = Usage(
            made.customer_id,
            self.facts.feature.slug,
            self.facts.quantity,
            self.presented.quote.charge,
            self.presented.quote.catalog_version,
        )
        own = (self.own,) if self.own is not None else ()
        return Serve(usage, hold_id, paid_by, (*keys, *own))


async def hold_instead(
    session: WriteSession, call: PaidCall, customer_id: int
) -> int | None:
    """Hold the charge if credits may pay for the call instead of the payment."""
    money = call.presented.money
    if not call.may_waive or await seen_on_chain(
        session, money.token, money.payer, money.nonce
    ):
        return None
    hold = await place(
        session,
        customer_id,
        call.facts.feature.slug,
        call.presented.quote.charge,
        lifetime_seconds=call.gate.hold_seconds,
    )
    return hold.id if hold is not None else None


async def begin_waived(session: WriteSession, call: PaidCall, made: Claim) -> AnswerKey:
    """Where the answer will be kept for copies of a payment that is waived."""
    begun = await answers.begin(
        session, waived_key(made), lease_seconds=call.gate.hold_seconds
    )
    assert isinstance(begun, AnswerKey), "a UNIQUE claim is waived once"
    return begun


def waived_key(made: Claim) -> AnswerKey:
    """Under which copies of a waived payment find its answer."""
    return answers.waived_answer(made)
