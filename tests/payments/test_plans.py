"""What the workers ask every second is answered from an index, however many rows."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from tallystick.chain.local import LocalChain
from tallystick.payments.observing.confirm import confirm
from tallystick.workers.upkeep import sweep
from tests.house import House, Process, Wallet

_LARGE = ("topup", "chain_transfer", "claim", "relayed_transaction", "recent_block")
_NAMES = "|".join((*_LARGE, "queued", "holder", "other", r"topup_\d"))
# All rows are of one chain, so a search by that alone reads them all.
_SCAN = re.compile(rf"SCAN ({_NAMES})\b|SEARCH ({_NAMES}) .*\(chain_id=\?\)")


@contextmanager
def asked_of(shop: Process) -> Iterator[dict[str, Any]]:
    """Every statement that is sent, with the values of its first time."""
    asked: dict[str, Any] = {}

    def note(_connection: Any, _cursor: Any, sql: str, values: Any, *_: Any) -> None:
        asked.setdefault(sql, values)

    engines = [shop.db.writer.sync_engine, shop.db.reader.sync_engine]
    for one in engines:
        event.listen(one, "before_cursor_execute", note)
    yield asked
    for one in engines:
        event.remove(one, "before_cursor_execute", note)


async def plans_of(shop: Process, asked: dict[str, Any]) -> dict[str, list[str]]:
    plans = {}
    async with shop.db.reader.connect() as connection:
        for sql, values in asked.items():
            if sql.lstrip().startswith(("SELECT", "UPDATE", "DELETE", "WITH")):
                rows = await connection.exec_driver_sql(
                    f"EXPLAIN QUERY PLAN {sql}", values
                )
                plans[sql] = [str(row[3]) for row in rows]
    return plans


async def test_no_worker_reads_a_whole_table(
    house: House, wallet: Wallet, local: LocalChain
) -> None:
    shop = await house.start()
    with asked_of(shop) as asked:
        topup_id = await shop.claim(await wallet.authorize(house.pay_to))
        await shop.settle_due()
        await shop.settle(topup_id)
        await wallet.send(house.pay_to, 5)
        head = await shop.rail.head()
        await shop.observe()
        await local.reorg(head.number)
        await shop.observe()
        await local.mine(3)
        await confirm(shop.db, shop.rail)
        await confirm(shop.db, shop.rail)
        await shop.tend()
        await sweep(shop.db, shop.rail)
        await shop.settle_due()
    plans = await plans_of(shop, asked)
    assert len(plans) > 40
    scans = {sql: plan for sql, plan in plans.items() if any(map(_SCAN.match, plan))}
    shown = [f"{sql}\n{plan}" for sql, plan in scans.items()]
    assert not shown, "\n\n".join(shown)
