"""The books beside the dictionary, in one look."""

from collections.abc import Sequence

from tests.ledger import bookings
from tests.properties.books import Books

from tallystick.credits.limits import limits_of
from tallystick.kernel.db import Database, ReadSession, query
from tallystick.ledger import chart
from tallystick.ledger.balances import customer_balance, net_debits
from tallystick.ledger.findings import Finding
from tallystick.metering.audit import audit_metering
from tallystick.paywall.audit import audit_answers

_EARNED = (
    chart.feature_revenue("x"),
    chart.feature_revenue("ai_analyst"),
    chart.breakage(),
)


def limited_as(customer: int) -> str:
    """The subject of the customer's limit."""
    return f"customer:{customer}"


async def compare(db: Database, model: Books, customers: Sequence[int]) -> None:
    """Balances, lots, limits, revenue and breakage must be the model's."""
    async with db.read() as session:
        for customer in customers:
            await _compare_customer(session, model, customer)
        await _compare_lots(session, model)
        limits = await limits_of(session, map(limited_as, customers))
        earned = [-await net_debits(session, one) for one in _EARNED]
    assert [one.used for one in limits] == [model.used.get(one, 0) for one in customers]
    assert sum(earned[:2]) == model.revenue
    assert earned[2] == model.breakage
    assert sum(map(model.posted, customers)) == model.given - sum(earned)


async def _compare_lots(session: ReadSession, model: Books) -> None:
    rows = await query(session, "SELECT id, remaining FROM lot_left WHERE is_open")
    # The burning lot is closed by who opens the next one.
    left = {row["id"]: row["remaining"] for row in rows if row["remaining"]}
    lots = model.lots.items()
    assert left == {number: lot.remaining for number, lot in lots if lot.remaining}


async def _compare_customer(session: ReadSession, model: Books, customer: int) -> None:
    found = await customer_balance(session, customer)
    assert found.posted == model.posted(customer)
    assert found.held == model.held(customer)
    # A clock that stepped back is noticed by the next one who writes; who only reads
    # may be told of a lot that had begun to count.
    if model.now >= model.written_at.get(customer, 0):
        assert found.available == model.available(customer)
        assert found.deferred == model.deferred(customer)


async def audit(db: Database) -> list[Finding]:
    """What the audits of all that the machine writes find."""
    found = await bookings.audit(db)
    async with db.read() as session:
        found += await audit_answers(session)
        used = await audit_metering(session)
    # Who charges by the journal alone tells of no use.
    return found + [one for one in used if "has its use" not in one.invariant]
