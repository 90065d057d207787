"""Settled by a facilitator that is honest, or absent, or slow."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from sqlalchemy import update
from structlog.testing import capture_logs

from tallystick.chain.local import LocalChain
from tallystick.claims.models import Claim
from tallystick.kernel.db import WriteSession
from tallystick.payments.errors import TopUpsUnavailable
from tallystick.payments.facilitated import ask, request_of
from tallystick.payments.models.topups import TopUp, TopUpState
from tallystick.payments.relaying.relayer import settled_by_us
from tallystick.samples.facilitator import Lie, SampleFacilitator
from tallystick.workers.upkeep import sweep
from tests.house import DOLLAR, House, Process, Wallet
from tests.payments.facilitators import (
    Listening,
    desk_at,
    eventually,
    listening,
    sample,
    sdk_app,
)
from tests.strangers import submit

S = TopUpState


@pytest.fixture
async def honest(local: LocalChain) -> AsyncIterator[SampleFacilitator]:
    async with sample(local) as one:
        yield one


@pytest.fixture
async def there(honest: SampleFacilitator) -> AsyncIterator[Listening]:
    async with listening(honest.app) as one:
        yield one


async def until(shop: Process, topup_id: int, is_so: Callable[[TopUp], bool]) -> TopUp:
    """Look, as the workers do, until it is so, or for 15 seconds."""
    now = asyncio.get_running_loop().time
    deadline = now() + 15
    while not is_so(topup := await shop.step(topup_id)):
        assert now() < deadline, f"it stays {topup.state}"
        await asyncio.sleep(0.02)
    return topup


async def credited(shop: Process, topup_id: int) -> TopUp:
    return await until(shop, topup_id, lambda one: one.state == S.CREDITED)


async def is_ours(shop: Process, topup: TopUp) -> bool:
    async with shop.db.read() as session:
        return await settled_by_us(session, topup.id, topup.tx_hash)


async def test_a_facilitator_settles_without_any_relayer(
    any_house: House, wallet: Wallet, honest: SampleFacilitator, there: Listening
) -> None:
    shop = await any_house.start(relayers=(), facilitator=desk_at(there.url))
    assert shop.rail.obstacle is None
    topup_id = await shop.claim(await wallet.authorize(any_house.pay_to))
    assert (await shop.step(topup_id)).state == S.SIGNED
    topup = await credited(shop, topup_id)
    (asked,) = await shop.asked(topup_id)
    assert asked.answer in {None, "settled"}
    assert await is_ours(shop, topup)
    assert await shop.credits_of(wallet) == 10 * DOLLAR
    assert len(honest.asked) == 1
    assert await shop.sent(topup_id) == []


@pytest.mark.parametrize("versions", [(2, 1), (1,)], ids=["v2", "v1"])
async def test_the_sdks_own_facilitator_settles(
    house: House, wallet: Wallet, local: LocalChain, versions: tuple[int, ...]
) -> None:
    async with listening(sdk_app(local.url)) as one:
        desk = desk_at(one.url, answer_seconds=10, patience_seconds=20)
        shop = await house.start(relayers=(), facilitator=desk)
        assert shop.rail.obstacle is None
        desk.version = 1 if versions == (1,) else desk.version
        topup_id = await shop.claim(await wallet.authorize(house.pay_to))
        topup = await credited(shop, topup_id)
        assert await is_ours(shop, topup)
        assert await shop.credits_of(wallet) == 10 * DOLLAR
        assert len(await shop.asked(topup_id)) == 1
        await shop.close()
        house.processes.remove(shop)


async def test_a_facilitator_of_version_1_is_asked_in_version_1(
    house: House, wallet: Wallet, local: LocalChain
) -> None:
    async with sample(local, versions=(1,)) as old, listening(old.app) as one:
        shop = await house.start(relayers=(), facilitator=desk_at(one.url))
        topup_id = await shop.claim(await wallet.authorize(house.pay_to))
        await credited(shop, topup_id)
        (asked,) = old.asked
        assert asked["x402Version"] == asked["paymentPayload"]["x402Version"] == 1
        assert asked["paymentRequirements"]["network"] == "base-sepolia"


async def test_a_facilitator_that_names_no_signers_proves_by_the_hash_it_names(
    house: House, wallet: Wallet, local: LocalChain
) -> None:
    """Its answer is waited for, also when the observer sees the money first."""
    shy = sample(local, names_signers=False, delay_seconds=0.5)
    async with shy as one_of_them, listening(one_of_them.app) as one:
        shop = await house.start(relayers=(), facilitator=desk_at(one.url))
        topup_id = await shop.claim(await wallet.authorize(house.pay_to))
        for _ in range(200):
            await shop.observe()
            topup = await shop.step(topup_id)
            if topup.state == S.CREDITED:
                break
            await asyncio.sleep(0.01)
        assert await is_ours(shop, topup)


async def test_the_observer_leaves_the_proof_to_the_settler(
    house: House, wallet: Wallet, honest: SampleFacilitator, there: Listening
) -> None:
    """It credits by itself only when the settler has had its time."""
    shop = await house.start(relayers=(), facilitator=desk_at(there.url))
    topup_id = await shop.claim(await wallet.authorize(house.pay_to))
    await shop.step(topup_id)
    await eventually(lambda: honest.settled)
    await shop.observe()
    assert (await shop.topup(topup_id)).state == S.SIGNED
    assert await is_ours(shop, await credited(shop, topup_id))


async def test_the_observer_credits_when_no_settler_comes(
    house: House, wallet: Wallet, honest: SampleFacilitator, there: Listening
) -> None:
    shop = await house.start(relayers=(), facilitator=desk_at(there.url))
    topup_id = await shop.claim(await wallet.authorize(house.pay_to))
    await shop.step(topup_id)
    await eventually(lambda: honest.settled)
    await shop.observe()
    house.clock.advance(31)
    await shop.observe()
    topup = await shop.topup(topup_id)
    assert topup.state == S.CREDITED
    assert not await is_ours(shop, topup), "nobody has proven it"


async def test_what_was_public_before_we_asked_buys_no_answer(
    house: House, wallet: Wallet, local: LocalChain, there: Listening
) -> None:
    """A node that lags shows it unused, and the facilitator says that it settled it.

    So did it, for somebody else, and whoever read that on the chain may show it to us.
    """
    shop = await house.start(relayers=(), facilitator=desk_at(there.url))
    signed = await wallet.authorize(house.pay_to)
    topup_id = await shop.claim(signed)
    other = await house.start(relayers=(), facilitator=desk_at(there.url))
    assert other.rail.facilitator is not None
    # Settled by the same facilitator, unasked by us, in a block of the past.
    request = request_of(shop.rail, await shop.topup(topup_id))
    answer = await other.rail.facilitator.client.settle(request, 2)
    assert answer.tx_hash is not None
    await local.advance(5)
    await lagging_ask(shop, topup_id)
    topup = await credited(shop, topup_id)
    assert topup.tx_hash == answer.tx_hash
    assert not await is_ours(shop, topup)
    assert await shop.credits_of(wallet) == 10 * DOLLAR


@pytest.mark.parametrize(("ahead", "is_served"), [(1, True), (8, False)])
async def test_a_machine_whose_clock_is_a_little_ahead_serves_who_pays_at_once(
    house: House, wallet: Wallet, there: Listening, *, ahead: int, is_served: bool
) -> None:
    """A block of Base may say a time before the request that it answers."""
    shop = await house.start(relayers=(), facilitator=desk_at(there.url))
    await in_step(house)
    house.clock.advance(ahead)
    topup_id = await shop.claim(await wallet.authorize(house.pay_to))
    with capture_logs() as lines:
        topup = await credited(shop, topup_id)
    assert await is_ours(shop, topup) is is_served
    assert await shop.credits_of(wallet) == 10 * DOLLAR
    told = [one for one in lines if one["event"] == "settled_before_we_asked"]
    assert bool(told) is not is_served


async def in_step(house: House) -> None:
    """The house's clock as the chain's, which another test may have moved."""
    await house.local.mine()
    head = await house.local.chain.block("latest")
    assert head is not None
    house.clock.advance(head.timestamp_seconds - house.clock.now_ms() // 1000)


async def lagging_ask(shop: Process, topup_id: int) -> None:
    """What the settler does after a node that lags has rehearsed the settlement."""
    await shop.rail.head()
    assert await ask(shop.db, shop.rail, await shop.topup(topup_id))
    for _ in range(300):
        if (await shop.asked(topup_id))[0].answer:
            break
        await asyncio.sleep(0.01)


async def test_a_front_run_after_we_asked_brings_credits_and_no_answer(
    house: House, wallet: Wallet, local: LocalChain, honest: SampleFacilitator
) -> None:
    honest.lies[wallet.address] = Lie.HANGS
    async with listening(honest.app) as one:
        shop = await house.start(relayers=(), facilitator=desk_at(one.url))
        signed = await wallet.authorize(house.pay_to)
        topup_id = await shop.claim(signed)
        await shop.step(topup_id)
        await submit(local, signed)
        topup = await credited(shop, topup_id)
        assert not await is_ours(shop, topup)
        assert await shop.credits_of(wallet) == 10 * DOLLAR


async def test_an_outage_without_a_fallback_ends_and_the_queue_drains(
    house: House, local: LocalChain, honest: SampleFacilitator, there: Listening
) -> None:
    """Nobody signs twice, nobody pays twice; the same payload goes out again."""
    desk = desk_at(there.url)
    shop = await house.start(relayers=(), facilitator=desk)
    wallets = [await Wallet(local).fund() for _ in range(3)]
    ids = [await shop.claim(await one.authorize(house.pay_to)) for one in wallets]
    await there.down()
    until_seconds = asyncio.get_running_loop().time() + 5
    while asyncio.get_running_loop().time() < until_seconds:
        await shop.settle_due()
        await asyncio.sleep(0.1)
    for one in ids:
        topup = await shop.topup(one)
        assert topup.state in {S.SIGNED, S.WATCH}
        assert 1 < len(await shop.asked(one)) < 8, "again, and not without end"
    with pytest.raises(TopUpsUnavailable):
        await shop.claim(await wallets[0].authorize(house.pay_to))
    await there.up()
    await desk.tend()
    assert shop.rail.obstacle is None
    for topup_id, one in zip(ids, wallets, strict=True):
        await credited(shop, topup_id)
        assert await shop.credits_of(one) == 10 * DOLLAR
    assert len(honest.asked) == 3


async def test_an_outage_with_a_fallback_is_settled_by_the_relayer(
    house: House, local: LocalChain, honest: SampleFacilitator, there: Listening
) -> None:
    desk = desk_at(there.url, falls_back=True)
    shop = await house.start(facilitator=desk)
    await there.down()
    wallets = [await Wallet(local).fund() for _ in range(3)]
    ids = [await shop.claim(await one.authorize(house.pay_to)) for one in wallets]
    for topup_id, one in zip(ids, wallets, strict=True):
        topup = await credited(shop, topup_id)
        assert await is_ours(shop, topup)
        assert len(await shop.sent(topup_id)) == 1
        assert await shop.credits_of(one) == 10 * DOLLAR
    assert honest.asked == []
    assert shop.rail.obstacle is None, "payments are taken all the while"
    assert await shop.asked(ids[-1]) == [], "it is not even asked in its outage"


async def test_what_hangs_is_settled_by_the_relayer_and_once_only(
    house: House, local: LocalChain, honest: SampleFacilitator, there: Listening
) -> None:
    """The facilitator settles late, when our own transaction has been mined.

    Its answer is not waited for: what we have sent ourselves needs no other proof.
    """
    desk = desk_at(there.url, falls_back=True, answer_seconds=25)
    shop = await house.start(facilitator=desk)
    wallet = await Wallet(local).fund()
    honest.lies[wallet.address] = Lie.HANGS
    topup_id = await shop.claim(await wallet.authorize(house.pay_to))
    topup = await credited(shop, topup_id)
    assert topup.tx_hash == (await shop.sent(topup_id))[0].tx_hash
    honest.lies.clear()
    late = await desk.client.settle(request_of(shop.rail, topup), 2)
    assert late.tx_hash is None
    assert await shop.credits_of(wallet) == 10 * DOLLAR


async def test_a_wallet_has_one_settlement_at_a_time(
    house: House, wallet: Wallet, honest: SampleFacilitator, there: Listening
) -> None:
    honest.lies[wallet.address] = Lie.HANGS
    shop = await house.start(relayers=(), facilitator=desk_at(there.url))
    first = await shop.claim(await wallet.authorize(house.pay_to))
    second = await shop.claim(await wallet.authorize(house.pay_to))
    await shop.step(first)
    assert (await shop.step(second)).state == S.CLAIMED
    assert await shop.asked(second) == []
    honest.lies.clear()
    await credited(shop, first)
    await credited(shop, second)
    assert await shop.credits_of(wallet) == 20 * DOLLAR


async def test_two_workers_ask_once(
    any_house: House, wallet: Wallet, honest: SampleFacilitator, there: Listening
) -> None:
    shops = [
        await any_house.start(relayers=(), facilitator=desk_at(there.url))
        for _ in range(2)
    ]
    topup_id = await shops[0].claim(await wallet.authorize(any_house.pay_to))
    await asyncio.gather(*(one.step(topup_id) for one in shops))
    await credited(shops[0], topup_id)
    assert len(honest.asked) == 1
    assert await shops[1].credits_of(wallet) == 10 * DOLLAR


async def test_a_silent_facilitator_keeps_no_worker_waiting(
    house: House, wallet: Wallet, local: LocalChain, honest: SampleFacilitator
) -> None:
    honest.lies[wallet.address] = Lie.HANGS
    async with listening(honest.app) as there:
        desk = desk_at(there.url, answer_seconds=25, patience_seconds=25)
        shop = await house.start(relayers=(), facilitator=desk)
        await shop.claim(await wallet.authorize(house.pay_to))
        async with asyncio.timeout(5):
            await shop.settle_due()
        other = await Wallet(local).fund()
        await credited(shop, await shop.claim(await other.authorize(house.pay_to)))


async def test_an_answer_that_drips_is_given_up(
    house: House, wallet: Wallet, honest: SampleFacilitator, there: Listening
) -> None:
    """Each byte comes in time, and there are always more."""
    honest.lies[wallet.address] = Lie.DRIP
    desk = desk_at(there.url)
    shop = await house.start(relayers=(), facilitator=desk)
    topup_id = await shop.claim(await wallet.authorize(house.pay_to))
    async with asyncio.timeout(5):
        request = request_of(shop.rail, await shop.topup(topup_id))
        answer = await desk.client.settle(request, 2)
    assert (answer.kind, answer.reason) == ("unclear", "TimeoutError")


@pytest.mark.parametrize("falls_back", [True, False])
async def test_a_refusal_shortens_the_wait(
    house: House,
    wallet: Wallet,
    honest: SampleFacilitator,
    there: Listening,
    *,
    falls_back: bool,
) -> None:
    honest.lies[wallet.address] = Lie.VALID_THEN_FAILS
    desk = desk_at(there.url, falls_back=falls_back, patience_seconds=25)
    shop = await house.start(facilitator=desk)
    topup_id = await shop.claim(await wallet.authorize(house.pay_to))
    await shop.step(topup_id)
    await eventually(lambda: honest.asked)
    honest.lies.clear()
    await credited(shop, topup_id)
    assert len(await shop.asked(topup_id)) == (1 if falls_back else 2)
    assert len(await shop.sent(topup_id)) == (1 if falls_back else 0)


async def test_silent_requests_do_not_pile_up(
    house: House, local: LocalChain, honest: SampleFacilitator, there: Listening
) -> None:
    """The others wait for room, unsigned, and are settled when there is some."""
    shop = await house.start(relayers=(), facilitator=desk_at(there.url))
    assert shop.rail.facilitator is not None
    never = asyncio.Event()

    async def hang() -> None:
        await never.wait()

    for _ in range(32):
        assert shop.rail.facilitator.has_room
        shop.rail.facilitator.begin(hang())
    wallet = await Wallet(local).fund()
    topup_id = await shop.claim(await wallet.authorize(house.pay_to))
    assert (await shop.step(topup_id)).state == S.CLAIMED
    assert await shop.asked(topup_id) == []
    never.set()
    await credited(shop, topup_id)


async def test_what_was_handed_over_is_never_forgotten(
    house: House, wallet: Wallet, local: LocalChain, honest: SampleFacilitator
) -> None:
    """Unlike what nobody outside has ever seen, it may be asked about for ever."""
    honest.lies[wallet.address] = Lie.VALID_THEN_FAILS
    async with listening(honest.app) as there:
        shop = await house.start(relayers=(), facilitator=desk_at(there.url))
        topup_id = await shop.claim(await wallet.authorize(house.pay_to))
        await shop.step(topup_id)
        await local.advance(91)
        house.clock.advance(91)
        await local.mine(3)
        await until(shop, topup_id, lambda one: one.state == S.EXPIRED)
        await local.advance(30 * 24 * 3600)
        house.clock.advance(30 * 24 * 3600)
        await local.mine()
        await shop.observe()
        await sweep(shop.db, shop.rail)
        assert [one.id for one in await shop.topups()] == [topup_id]


async def test_a_clock_that_steps_back_does_not_stop_the_asking(
    house: House, wallet: Wallet, honest: SampleFacilitator, there: Listening
) -> None:
    honest.lies[wallet.address] = Lie.GARBAGE
    desk = desk_at(there.url, patience_seconds=30)
    shop = await house.start(relayers=(), facilitator=desk)
    topup_id = await shop.claim(await wallet.authorize(house.pay_to))
    await shop.step(topup_id)
    await eventually(lambda: honest.asked)
    honest.lies.clear()
    house.clock.advance(-3600)
    await credited(shop, topup_id)


async def test_no_proxy_of_the_environment_gets_a_payment(
    house: House,
    wallet: Wallet,
    honest: SampleFacilitator,
    there: Listening,
    local: LocalChain,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A proxy sees what is sent in the clear, and may settle or keep it."""
    async with sample(local) as other, listening(other.app) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        shop = await house.start(relayers=(), facilitator=desk_at(there.url))
        await credited(shop, await shop.claim(await wallet.authorize(house.pay_to)))
        assert (len(honest.asked), len(other.asked)) == (1, 0)


async def test_a_waived_claim_that_was_handed_over_is_found_by_the_audit(
    house: House, wallet: Wallet, there: Listening
) -> None:
    shop = await house.start(relayers=(), facilitator=desk_at(there.url))
    topup_id = await shop.claim(await wallet.authorize(house.pay_to))
    await credited(shop, topup_id)
    house.is_sound = False

    async def tamper(session: WriteSession) -> None:
        await session.exec(update(Claim).values(state="waived"))

    await shop.db.write(tamper)
    findings = {one.invariant for one in (await shop.audit()).findings}
    assert "I7 a waived claim was never handed to a facilitator" in findings


async def test_a_facilitator_that_does_not_know_our_network_is_an_obstacle(
    house: House, wallet: Wallet, local: LocalChain
) -> None:
    async with sample(local, versions=()) as stranger, listening(stranger.app) as one:
        shop = await house.start(relayers=(), facilitator=desk_at(one.url))
        assert shop.rail.obstacle == (
            "the facilitator does not settle exact payments on eip155:84532"
        )
        with pytest.raises(TopUpsUnavailable):
            await shop.claim(await wallet.authorize(house.pay_to))
        backed = await house.start(facilitator=desk_at(one.url, falls_back=True))
        assert backed.rail.obstacle is None
        topup_id = await backed.claim(await wallet.authorize(house.pay_to))
        await credited(backed, topup_id)
        assert stranger.asked == []
