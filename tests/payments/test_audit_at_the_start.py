"""The audit of books into which nothing was written yet."""

from tallystick.audit import audit
from tallystick.chain.local import LocalChain
from tallystick.payments.observing.opening import open_books
from tallystick.wiring import build_gate
from tests.live import make_settings


async def test_books_can_be_audited_before_the_observer_saw_a_block(
    database_url: str, chain: LocalChain
) -> None:
    gate = build_gate(make_settings(database_url, chain.url, 0))
    try:
        await gate.db.start()
        await open_books(gate.db, gate.rail)
        report = await audit(gate.db, gate.rail)
        assert (report.ok, report.findings) == (True, [])
    finally:
        await gate.db.close()
        await gate.rail.chain.close()
