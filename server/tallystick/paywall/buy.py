"""Buy credits with a payment: once, and the same answer for every copy.

A copy is the same payment again, or another payment under the same Idempotency-Key.
"""

from dataclasses import dataclass

from tallystick.customers.wallets import customer_of_wallet
from tallystick.kernel.crash_points import CrashPoint, reached
from tallystick.kernel.db import WriteSession
from tallystick.payments.errors import PaymentInProgress
from tallystick.payments.models.topups import OPEN_STATES, TopUp
from tallystick.payments.observing.unclaimed import used_at_seconds
from tallystick.payments.presented import (
    Presented,
    check_payment,
    money_of,
    require_signer,
)
from tallystick.payments.purchase import (
    known_topup,
    open_purchase,
    probe_for,
    require_network,
    require_paid,
    require_payer,
    wait_for,
)
from tallystick.payments.relaying.relayer import settled_by_us
from tallystick.paywall.challenges import require_identifier
from tallystick.paywall.gate import Gate
from tallystick.paywall.offers import Offers
from tallystick.paywall.once import answer_key, begin_purchase, purchased
from tallystick.x402.wire import PaymentPayload


@dataclass(frozen=True, slots=True)
class Order:
    """What is bought, and by whom if that is known without the payment.

    ``wait_ms`` is how long the buyer waits for the settlement; ``key`` is his
    Idempotency-Key.
    """

    offers: Offers
    caller_id: int | None
    wait_ms: int
    key: str | None = None

    @property
    def binding(self) -> str:
        return self.offers.v2[0].binding


@dataclass(frozen=True, slots=True)
class Bought:
    """A paid top-up. ``replayed`` when an earlier request bought it.

    ``is_proven`` is whether nobody but its payer can have sent the request: what is or
    was on the chain is public, so whoever shows it learns public facts only.
    """

    topup: TopUp
    replayed: bool
    is_proven: bool


async def buy(gate: Gate, order: Order, payload: PaymentPayload) -> Bought:
    """Settle the payment as a top-up and wait for it.

    Raises ``PaymentRejected``, which becomes a 402, and everything that ``settle``
    does; ``PaymentBoundElsewhere`` for another request's payment,
    ``PaymentIdentifierMissing``.
    """
    require_identifier(gate, payload)
    require_network(gate.rail, payload)
    money = money_of(gate.rail, payload.authorization, order.binding)
    async with gate.db.read() as session:
        known = await known_topup(session, money)
    if known is not None and known.state not in OPEN_STATES:
        return Bought(require_paid(known), replayed=True, is_proven=False)
    if known is not None:
        # Its window may have closed since it was presented, and it may still arrive.
        await require_signer(gate.rail, payload, may_deploy=True)
        return await _wait(gate, order, known.id, replayed=False)
    used_at = await used_at_seconds(gate.db, gate.rail, money)
    offered = order.offers.v1 + order.offers.past
    presented = await check_payment(
        gate.rail, gate.seal, payload, offered, used_at=used_at
    )
    return await settle(gate, order, presented)


async def settle(gate: Gate, order: Order, presented: Presented) -> Bought:
    """The same for a payment that is proven and was never presented before.

    Raises ``SettlementPending`` (202) when the outcome takes longer than the buyer
    waits, ``PaymentRejected`` when nothing was taken and nothing will be,
    ``PayerNotLinked``, ``IdempotencyMismatch`` and ``PaymentIdentifierReused``;
    ``TopUpsUnavailable`` and ``RpcUnavailable`` before anything is claimed.
    """
    async with gate.db.read() as session:
        await require_payer(session, presented.money.payer, order.caller_id)
    earlier = await _purchased(gate, order, presented)
    if earlier is not None:
        return await _wait(gate, order, earlier, replayed=True)
    head = await probe_for(gate.db, gate.rail, presented)

    async def work(session: WriteSession) -> int:
        made, topup_id = await open_purchase(session, gate.rail, presented, head)
        if order.key is not None:
            key = answer_key(gate, made.customer_id, order.key, order.binding)
            first = await begin_purchase(session, key, made.id)
            if first is not None:
                raise _Earlier(first.id)
        return topup_id

    try:
        topup_id = await gate.db.write(work)
    except _Earlier as first:
        return await _wait(gate, order, first.topup_id, replayed=True)
    except PaymentInProgress:
        # Of copies that come at once, one opens the top-up and all wait for it.
        topup_id = await _of_copy(gate, presented)
    reached(CrashPoint.CLAIMED)
    gate.rail.work.notify()
    return await _wait(gate, order, topup_id, replayed=False)


class _Earlier(Exception):
    """The key stands for another top-up, so this payment's claim must not stay."""

    def __init__(self, topup_id: int) -> None:
        super().__init__()
        self.topup_id = topup_id


async def _purchased(gate: Gate, order: Order, presented: Presented) -> int | None:
    """The top-up that the buyer's key stands for, as far as one is known."""
    if order.key is None:
        return None
    async with gate.db.read() as session:
        customer_id = await customer_of_wallet(session, presented.money.payer)
        if customer_id is None:
            return None
        key = answer_key(gate, customer_id, order.key, order.binding)
        topup = await purchased(session, key)
    return topup.id if topup is not None else None


async def _of_copy(gate: Gate, presented: Presented) -> int:
    async with gate.db.read() as session:
        topup = await known_topup(session, presented.money)
    assert topup is not None, "a purchase's claim always has its top-up"
    return topup.id


async def _wait(gate: Gate, order: Order, topup_id: int, *, replayed: bool) -> Bought:
    topup = await wait_for(gate.db, gate.rail, topup_id, order.wait_ms)
    reached(CrashPoint.OUTCOME_KNOWN)
    async with gate.db.read() as session:
        is_ours = await settled_by_us(session, topup.id, topup.tx_hash)
    return Bought(require_paid(topup), replayed, is_proven=is_ours)
