"""What an operator is told of paybacks and of settlements for other sellers.

Money is in atomic USDC, gas money in wei (text in JSON, where it may be too large for
a number), times in seconds.
"""

from collections.abc import Iterable

from prometheus_client.metrics_core import Metric

from tallystick.api.gauges import gauge, gauges
from tallystick.kernel.ids import encode_id
from tallystick.payments.merchants.health import MerchantHealth
from tallystick.payments.paybacks.health import PaybackHealth, Standing
from tallystick.payments.rules.gas import GasRules


def payback_figures(found: PaybackHealth) -> dict[str, object]:
    """For JSON; amounts in atomic units."""
    funds = found.funds
    return {
        "waiting": {
            one.standing.value: {
                "count": one.count,
                "oldest_seconds": one.oldest_seconds,
                "atomic_usdc": str(one.usdc),
            }
            for one in found.waiting
        },
        "refused": found.refused,
        "float": None
        if funds is None
        else {
            "atomic_usdc": str(funds.usdc),
            "wei": str(funds.wei),
            "has_gas": funds.has_gas,
        },
    }


def merchant_figures(found: MerchantHealth, rules: GasRules) -> dict[str, object]:
    """For JSON; amounts in atomic units."""
    return {
        "merchants": found.merchants,
        "open": {
            one.state: {
                "count": one.count,
                "oldest_seconds": one.oldest_seconds,
                "atomic_usdc": str(one.usdc),
                "stuck": one.stuck,
            }
            for one in found.open
        },
        "quarantined": found.quarantined,
        "gas_today": {
            encode_id("mer", one.merchant_id): {
                "spent_wei": str(one.spent),
                "reserved_wei": str(one.reserved),
            }
            for one in found.today
        },
        "gas_budget_wei": str(rules.per_merchant),
    }


def payback_metrics(found: PaybackHealth) -> Iterable[Metric]:
    """A standing without any is 0, so that an alarm sees it fall."""
    seen = {standing: found.of(standing) for standing in Standing}
    for name, words, part in (
        ("paybacks_waiting", "Paybacks that are not paid yet", "count"),
        (
            "paybacks_waiting_oldest_seconds",
            "Since the oldest of them came there",
            "oldest_seconds",
        ),
        ("paybacks_waiting_atomic_usdc", "What they are to bring", "usdc"),
    ):
        values = {
            (standing.value,): getattr(one, part) if one else 0
            for standing, one in seen.items()
        }
        yield gauges(name, words, ["standing"], values)
    words = "Paybacks that the float's worker could not send when it last tried"
    refused = {(reason,): count for reason, count in found.refused.items()}
    yield gauges("paybacks_refused", words, ["reason"], refused)
    funds = found.funds
    words = "What the float has, in atomic USDC"
    yield gauge("float_balance_atomic_usdc", words, funds.usdc if funds else None)
    yield gauge(
        "float_balance_wei", "Gas money of the float", funds.wei if funds else None
    )
    words = "Whether the float can pay for gas"
    yield gauge("float_has_gas", words, int(funds.has_gas) if funds else None)


def merchant_metrics(found: MerchantHealth, rules: GasRules) -> Iterable[Metric]:
    """Settlements by state, and gas by merchant."""
    for name, words, part in (
        ("merchant_settlements_open", "Settlements for merchants, not final", "count"),
        (
            "merchant_settlements_open_oldest_seconds",
            "The age of the oldest of them",
            "oldest_seconds",
        ),
        ("merchant_settlements_open_atomic_usdc", "What they move", "usdc"),
        (
            "merchant_settlements_stuck",
            "Those without an outcome long after their window",
            "stuck",
        ),
    ):
        values = {(one.state,): getattr(one, part) for one in found.open}
        yield gauges(name, words, ["state"], values)
    words = "Settlements for merchants that a person must look at"
    yield gauge("merchant_settlements_quarantined", words, found.quarantined)
    for name, words, part in (
        ("spent", "What a merchant's settlements of this UTC day cost", "spent"),
        ("reserved", "What those may cost that are not mined yet", "reserved"),
    ):
        wei = {
            (encode_id("mer", one.merchant_id),): getattr(one, part)
            for one in found.today
        }
        yield gauges(f"merchant_gas_{name}_today_wei", words, ["merchant"], wei)
    words = "What each merchant's settlements may cost in a day"
    yield gauge("merchant_gas_budget_wei", words, rules.per_merchant)
