"""``GET /metrics``: how payments are doing, in the text format of Prometheus.

Each figure is read when it is asked for: from the database, or as this process saw it
last. No node is asked. Money is in atomic USDC, gas money in wei, times in seconds. The
figures of a process are its own; of several processes each is asked.
"""

from collections.abc import Iterable

from fastapi import APIRouter, Request
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.responses import Response

from tallystick.api.gauges import gauge, gauges
from tallystick.api.identify import GateDep
from tallystick.api.obligations import merchant_metrics, payback_metrics
from tallystick.api.passage import running_of
from tallystick.payments.health import Health, health
from tallystick.payments.rail import Outlook, Rail
from tallystick.paywall.answer import NO_STORE
from tallystick.paywall.gate import Gate
from tallystick.x402.keccak import checksum_address

router = APIRouter(tags=["operation"])


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {
            "description": "The figures, in the text format of Prometheus",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        }
    },
)
async def metrics(request: Request, gate: GateDep) -> Response:
    """How payments are doing, for Prometheus; for the operator only."""
    running_of(request).watchers.require(request)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(gate, await health(gate.db, gate.rail)))
    text = generate_latest(registry)
    return Response(text, headers=NO_STORE, media_type=CONTENT_TYPE_PLAIN_1_0_0)


class _Figures(Collector):
    """One look, as Prometheus's library wants to be told of it."""

    def __init__(self, gate: Gate, found: Health) -> None:
        self._gate = gate
        self._found = found

    def collect(self) -> Iterable[Metric]:
        """Every metric that we have."""
        yield from _of_topups(self._found, self._gate.rail.outlook)
        yield from _of_books(self._found)
        yield from _of_audits(self._found)
        yield from _of_chain(self._found, self._gate)
        yield from _of_relayers(self._found)
        yield from _of_gas(self._found, self._gate.rail)
        yield from payback_metrics(self._found.paybacks)
        yield from merchant_metrics(self._found.merchants, self._gate.rail.gas)
        depth, words = (
            self._gate.writes.depth,
            "Charges and holds that wait for a write",
        )
        yield gauge("charge_queue_depth", words, depth)


def _of_topups(found: Health, outlook: Outlook) -> Iterable[Metric]:
    moved = CounterMetricFamily(
        "tallystick_topup_transitions",
        "Top-ups that went from one state to another, in this process",
        labels=["from", "to"],
    )
    for (before, after), count in sorted(outlook.transitions.items()):
        moved.add_metric([before, after], count)
    yield moved
    counts = {(one.state,): one.count for one in found.pending}
    yield gauges("topups_pending", "Top-ups without an outcome yet", ["state"], counts)
    oldest = max((one.oldest_seconds for one in found.pending), default=0)
    yield gauge(
        "topups_pending_oldest_seconds", "The age of the oldest of them", oldest
    )
    words = "Top-ups that a person must look at"
    yield gauge("topups_quarantined", words, found.quarantined)
    words = "Credited before its block is safe, in atomic USDC"
    yield gauge("exposure_atomic_usdc", words, found.exposure)
    words = "What may be, for all together and for one customer"
    caps = {("all",): found.exposure_cap, ("customer",): found.customer_cap}
    yield gauges("exposure_cap_atomic_usdc", words, ["of"], caps)


def _of_books(found: Health) -> Iterable[Metric]:
    age = found.compared_age_seconds
    words = "Since books and chain were compared"
    yield gauge("reconciliation_age_seconds", words, age)
    compared = found.compared
    if compared is None:
        return
    difference = compared.ledger_usdc - compared.chain_usdc
    words = "Ledger less chain at the finalized block, in atomic USDC"
    yield gauge("reconciliation_difference_atomic_usdc", words, difference)
    words = "Differences that were named"
    yield gauge("reconciliation_findings", words, len(compared.findings))
    words = "The block at which they were compared"
    yield gauge("reconciliation_block", words, compared.block_number)
    words = "What the addresses hold, in atomic USDC"
    sides = {("ledger",): compared.ledger_usdc, ("chain",): compared.chain_usdc}
    yield gauges("treasury_atomic_usdc", words, ["by"], sides)


def _of_audits(found: Health) -> Iterable[Metric]:
    words = "Since the books were audited: what is new in them, and the whole"
    ages = {(one.kind,): one.age_seconds for one in found.audits}
    yield gauges("audit_age_seconds", words, ["of"], ages)
    words = "What that audit found"
    counts = {(one.kind,): len(one.findings) for one in found.audits}
    yield gauges("audit_findings", words, ["of"], counts)


def _of_chain(found: Health, gate: Gate) -> Iterable[Metric]:
    rail = gate.rail
    yield gauge("chain_head_block", "The newest block", found.head_number)
    yield gauge("chain_head_age_seconds", "Its age", found.head_age_seconds)
    yield gauge("chain_final_block", "The newest final block", found.final_number)
    words = "Since a node answered last"
    yield gauge("chain_silent_seconds", words, int(rail.chain.silent_seconds))
    words = "Blocks between the newest and the last that was read"
    yield gauge("observer_lag_blocks", words, found.observer_lag)
    words = "Whether a payment could be taken now"
    open_now = rail.obstacle is None and rail.silence is None
    yield gauge("takes_payments", words, int(open_now))
    is_open = {
        (str(one),): int(rail.offering_obstacle(one) is None) for one in rail.ways
    }
    words = "Whether one could be settled that is signed in this way"
    yield gauges("payment_way_open", words, ["way"], is_open)


def _of_relayers(found: Health) -> Iterable[Metric]:
    # What gas was spent on, and wasted, belongs here once receipts are kept.
    wei = {(checksum_address(who),): held for who, held in found.relayer_wei.items()}
    yield gauges("relayer_balance_wei", "Gas money of a relayer", ["relayer"], wei)
    can_pay = {
        (checksum_address(who),): int(who not in found.without_gas)
        for who in found.relayer_wei
    }
    words = "Whether it can pay for a settlement"
    yield gauges("relayer_has_gas", words, ["relayer"], can_pay)


def _of_gas(found: Health, rail: Rail) -> Iterable[Metric]:
    for name, words in (
        ("spent", "What a relayer's mined transactions cost, in wei"),
        ("wasted", "What of it moved no money"),
    ):
        made = CounterMetricFamily(
            f"tallystick_relayer_gas_{name}_wei", words, labels=["relayer"]
        )
        for one in found.gas:
            made.add_metric([checksum_address(one.relayer)], getattr(one, name))
        yield made
    today = {(checksum_address(one.relayer),): one.today for one in found.gas}
    words = "What counts of a relayer's gas budget of this UTC day"
    yield gauges("relayer_gas_today_wei", words, ["relayer"], today)
    words = "What each relayer may spend on gas in a day"
    yield gauge("relayer_gas_budget_wei", words, rail.gas.per_day)
