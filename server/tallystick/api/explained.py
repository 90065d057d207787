"""What stands behind a line of a statement, gathered from the rooms that know it."""

from dataclasses import dataclass
from typing import Any

from tallystick.credits.holds import hold_behind
from tallystick.credits.origins import Origin, origins_of
from tallystick.kernel.db import ReadSession
from tallystick.kernel.ids import encode_id
from tallystick.kernel.money import to_decimal
from tallystick.ledger.explain import Entry, Explanation, explain
from tallystick.ledger.models import TransactionKind
from tallystick.ledger.statement import line_document
from tallystick.metering.charges import use_behind
from tallystick.metering.models import UsageEvent
from tallystick.payments.models.topups import TopUp
from tallystick.payments.topups import payment_behind, public_facts


@dataclass(frozen=True, slots=True)
class Behind:
    """A transaction with the call, or the payment, that it was booked for."""

    booked: Explanation
    lots: list[Origin]
    use: UsageEvent | None
    topup: TopUp | None


async def behind(
    session: ReadSession, customer_id: int, ledger_transaction_id: int
) -> Behind:
    """At most six reads, each by an index; raises ``UnknownTransaction``."""
    booked = await explain(session, customer_id, ledger_transaction_id)
    lots = await origins_of(session, booked.draws)
    use = None
    if booked.line.kind == TransactionKind.CHARGE:
        use = await use_behind(session, customer_id, ledger_transaction_id)
    topup = await payment_behind(session, customer_id, booked.reference)
    return Behind(booked, lots, use, topup)


def explained(found: Behind) -> dict[str, Any]:
    """As JSON; credits and dollars are exact numbers."""
    booked, use, topup = found.booked, found.use, found.topup
    reverses = booked.reverses_id
    return {
        **line_document(booked.line),
        "occurred_at_ms": booked.occurred_at_ms,
        "entries": [_entry(one) for one in booked.entries],
        "lots": [_lot(one) for one in found.lots],
        "call": None if use is None else _call(use, booked),
        "payment": None if topup is None else public_facts(topup),
        "reverses": None if reverses is None else encode_id("ltx", reverses),
        "reversed_by": [
            {
                "id": encode_id("ltx", one.ledger_transaction_id),
                "credits": to_decimal(one.amount),
            }
            for one in booked.reversed_by
        ],
    }


def _entry(one: Entry) -> dict[str, Any]:
    after = one.balance_after
    return {
        "account": one.account,
        "asset": one.asset.code,
        "amount": to_decimal(one.amount, one.asset.scale),
        "balance_after": None if after is None else to_decimal(after, one.asset.scale),
    }


def _lot(one: Origin) -> dict[str, Any]:
    cost = None
    if one.cost is not None and one.cost_asset is not None:
        amount = to_decimal(one.cost, one.cost_asset.scale)
        cost = {"asset": one.cost_asset.code, "amount": amount}
    return {
        "id": encode_id("grt", one.lot_id),
        "category": one.category,
        "credits": to_decimal(one.amount),
        "cost": cost,
    }


def _call(use: UsageEvent, booked: Explanation) -> dict[str, Any]:
    hold_id = hold_behind(booked.reference, booked.idempotency_key)
    return {
        "feature": use.feature,
        "quantity": to_decimal(use.quantity),
        "credits": to_decimal(use.credits),
        "catalog_version": use.catalog_version,
        "occurred_at_ms": use.occurred_at_ms,
        "hold": None if hold_id is None else encode_id("hld", hold_id),
    }
