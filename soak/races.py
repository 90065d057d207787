"""``races``: payments that somebody meddles with between our check and our signature.

Four payers at a time, again and again: one pays as usual, the payment of one is
submitted by a stranger, one cancels his, and one empties his wallet. All were checked and
claimed before that. What a stranger submitted is credited, what was cancelled or drained
is not, and of what we send hardly anything reverts: a transaction that comes to nothing
costs us gas.

Every fourth round the meddling goes into the pool beside our transactions, with a
higher tip. Nobody can know of it then, so what reverts there is told apart.
"""

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.house import DOLLAR, PAID, House, Process, Wallet
from tests.ledger.tampering import tamper
from tests.strangers import (
    has_reverted,
    pool_cancellation,
    pool_transfer,
    settle_pool,
    submit,
)

from soak import places
from soak.books import Make, fresh_books
from soak.plan import Plan
from tallystick.chain.local import LocalChain
from tallystick.chain.token import balance_of
from tallystick.kernel.clock import OffsetClock
from tallystick.kernel.log import configure_logging
from tallystick.payments.models.topups import OPEN_STATES, TopUpState
from tallystick.payments.observing.confirm import confirm
from tallystick.x402.wire import Authorization

_KINDS = ("honest", "front_run", "cancelled", "drained")
_EACH = 5
_LATE = 4
_WINDOW_SECONDS = 120
_FINAL_BLOCKS = 4
_KNOWN = set(TopUpState) - set(OPEN_STATES) | {TopUpState.WATCH}
_MOST_REVERTED = 0.01
_ELSEWHERE = b"\x77" * 20
_PRICE = 10 * DOLLAR
"""Micro-credits for one dollar."""
_ONE_TOO_MANY = """
    UPDATE credit_grant SET amount = amount + 1 WHERE id = (
        SELECT MAX(id) FROM credit_grant WHERE cost_asset IS NOT NULL)"""


@dataclass
class _Race:
    """One payer, and the payment that is meddled with."""

    kind: str
    wallet: Wallet
    signed: tuple[Authorization, bytes]
    topup_id: int


@dataclass
class _Told:
    """How many of each kind there were, were credited, and of ours reverted."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def reverts_too_often(self) -> bool:
        """Of transactions that we need not have sent."""
        return self.counts["reverted"] > _MOST_REVERTED * self.counts["sent"]


def run(plan: Plan) -> dict[str, Any]:
    """The verdict: how many of each kind were credited, and how many of ours reverted."""
    configure_logging("ERROR")
    with places.folder() as folder, fresh_books(plan, folder) as make:
        told = asyncio.run(_run(plan, folder, make))
    proved = all(told.counts[one] for one in _KINDS) and told.counts["sent"] > 0
    ok = proved and not told.wrong and not told.reverts_too_often
    counts = {one: told.counts[one] for one in _names()}
    verdict = {"ok": ok, "seed": plan.seed, "database": plan.database, **counts}
    return verdict | ({"wrong": told.wrong[:20]} if told.wrong else {})


def _names() -> list[str]:
    of_kinds = [name for kind in _KINDS for name in (kind, f"{kind}_credited")]
    late = [f"late_{one}" for one in ("races", "credited", "sent", "reverted")]
    return ["rounds", *of_kinds, "sent", "reverted", *late]


async def _run(plan: Plan, folder: Path, make: Make) -> _Told:
    told, chance = _Told(), random.Random(plan.seed)
    async with LocalChain(slots_in_an_epoch=1) as local:
        head = await local.chain.block("latest")
        assert head is not None
        house = House(local, await make(folder), head.number, OffsetClock())
        shop = await house.start()
        try:
            end = time.monotonic() + plan.seconds
            while not told.counts["rounds"] or time.monotonic() < end:
                await _round(house, shop, told, chance)
                plan.tell(f"{told.counts['rounds']} rounds")
            if plan.sabotage:
                await tamper(shop.db, _ONE_TOO_MANY)
            told.wrong += await _compare(local, shop, told)
        finally:
            await house.stop()
    return told


async def _round(
    house: House, shop: Process, told: _Told, chance: random.Random
) -> None:
    local = house.local
    races = [await _begin(local, shop, kind) for kind in _KINDS * _EACH]
    chance.shuffle(races)
    is_late = told.counts["rounds"] % _LATE == 1
    meddle = _meddle_late if is_late else _meddle
    await meddle(local, shop, races)
    await shop.tend()
    for race in races:
        await shop.until(race.topup_id, *_KNOWN)
    # What is not paid can be paid until its window closes.
    await local.advance(_WINDOW_SECONDS)
    house.clock.advance(_WINDOW_SECONDS)
    await local.mine(_FINAL_BLOCKS)
    await shop.observe()
    for race in races:
        await shop.settle(race.topup_id)
    # Else so much would be credited in blocks that are not safe that new ones wait.
    await confirm(shop.db, shop.rail)
    for race in races:
        await _count(local, shop, race, told, is_late=is_late)
    told.counts["rounds"] += 1


async def _begin(local: LocalChain, shop: Process, kind: str) -> _Race:
    wallet = await Wallet(local).fund(DOLLAR)
    signed = await wallet.authorize(shop.rail.pay_to)
    return _Race(kind, wallet, signed, await shop.claim(signed))


async def _meddle(local: LocalChain, shop: Process, races: list[_Race]) -> None:
    """Mined before we look again."""
    for race in races:
        if race.kind == "front_run":
            await submit(local, race.signed)
        elif race.kind == "cancelled":
            await race.wallet.cancel(race.signed[0].nonce)
        elif race.kind == "drained":
            await race.wallet.send(_ELSEWHERE, DOLLAR)


async def _meddle_late(local: LocalChain, shop: Process, races: list[_Race]) -> None:
    """In the pool beside what we sent."""
    await local.set_automine(on=False)
    for race in races:
        await shop.step(race.topup_id, times=2)
        if race.kind == "front_run":
            await submit(local, race.signed, tip=50, mine=False)
        elif race.kind == "cancelled":
            await pool_cancellation(local, race.wallet, race.signed[0].nonce)
        elif race.kind == "drained":
            await pool_transfer(local, race.wallet, DOLLAR)
    await settle_pool(local)
    await local.set_automine(on=True)


async def _count(
    local: LocalChain, shop: Process, race: _Race, told: _Told, *, is_late: bool
) -> None:
    is_paid = (await shop.topup(race.topup_id)).state in PAID
    sent = [one.tx_hash for one in await shop.sent(race.topup_id)]
    reverted = [one for one in sent if await has_reverted(local, one)]
    late = "late_" if is_late else ""
    told.counts[f"{late}sent"] += len(sent)
    told.counts[f"{late}reverted"] += len(reverted)
    if is_late:
        told.counts["late_races"] += 1
        told.counts["late_credited"] += is_paid
    else:
        told.counts[race.kind] += 1
        told.counts[f"{race.kind}_credited"] += is_paid
        if is_paid is (race.kind in {"cancelled", "drained"}):
            told.wrong.append(f"{race.kind} was {'' if is_paid else 'not '}credited")
    left = await balance_of(local.chain, race.wallet.address)
    has_paid = left == 0 and race.kind != "drained"
    credited = await shop.credits_of(race.wallet)
    if not is_late and credited != (_PRICE if has_paid else 0):
        told.wrong.append(f"{race.kind}: {credited} micro-credits")


async def _compare(local: LocalChain, shop: Process, told: _Told) -> list[str]:
    """What the address received is what was credited, and the audit finds nothing."""
    paid = sum(told.counts[f"{one}_credited"] for one in (*_KINDS, "late"))
    received = await balance_of(local.chain, shop.rail.pay_to)
    report = await shop.audit()
    wrong = [str(one) for one in report.findings]
    if received != paid * DOLLAR:
        wrong.append(f"{received} atomic units came, {paid} dollars were credited")
    return wrong
