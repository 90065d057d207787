"""A wallet has one settlement in flight, and the others get their turn."""

from sqlalchemy import update
from sqlmodel import col

from tallystick.chain.fault import ErrorAnswer, FaultProxy
from tallystick.chain.local import LocalChain
from tallystick.kernel.db import WriteSession
from tallystick.payments.models.topups import TopUp, TopUpState
from tests.house import DOLLAR, House, Process, Wallet
from tests.strangers import submit

S = TopUpState


async def claim_many(shop: Process, wallet: Wallet, count: int) -> list[int]:
    return [
        await shop.claim(await wallet.authorize(shop.rail.pay_to)) for _ in range(count)
    ]


async def in_flight(shop: Process, topup_ids: list[int]) -> list[bool]:
    return [(await shop.topup(one)).in_flight for one in topup_ids]


async def test_the_second_payment_of_a_wallet_waits_for_the_first(
    any_house: House, wallet: Wallet
) -> None:
    shop = await any_house.start()
    topup_ids = await claim_many(shop, wallet, 3)
    assert await in_flight(shop, topup_ids) == [True, False, False]
    assert await shop.settle_due() == 1, "those that wait are not looked at"
    await shop.settle(topup_ids[0])
    assert await in_flight(shop, topup_ids) == [False, True, False]
    await shop.settle(topup_ids[1])
    await shop.settle(topup_ids[2])
    assert await in_flight(shop, topup_ids) == [False, False, False]
    assert await shop.credits_of(wallet) == 30 * DOLLAR


async def test_a_queued_payment_that_another_submits_is_credited_in_its_place(
    house: House, wallet: Wallet, local: LocalChain
) -> None:
    """The lane stays with the first, and the third goes on waiting for it."""
    shop = await house.start()
    (first,) = await claim_many(shop, wallet, 1)
    assert (await shop.step(first)).state == S.SIGNED
    signed = await wallet.authorize(house.pay_to)
    second = await shop.claim(signed)
    (third,) = await claim_many(shop, wallet, 1)
    await submit(local, signed)
    assert (await shop.step(second)).state == S.CREDITED
    assert await in_flight(shop, [first, second, third]) == [True, False, False]


async def test_wallets_do_not_wait_for_one_another(
    house: House, local: LocalChain
) -> None:
    shop = await house.start()
    first, second = await Wallet(local).fund(), await Wallet(local).fund()
    topup_ids = [*await claim_many(shop, first, 1), *await claim_many(shop, second, 1)]
    assert await in_flight(shop, topup_ids) == [True, True]


async def test_a_refused_payment_hands_the_lane_on(
    house: House, wallet: Wallet
) -> None:
    shop = await house.start()
    signed = await wallet.authorize(house.pay_to)
    await wallet.cancel(signed[0].nonce)
    refused = await shop.claim(signed)
    (later,) = await claim_many(shop, wallet, 1)
    assert (await shop.settle(refused)).state == S.REJECTED
    assert await in_flight(shop, [refused, later]) == [False, True]


async def test_a_payment_that_can_be_settled_no_more_keeps_nobody_waiting(
    house: House, wallet: Wallet, local: LocalChain, proxy: FaultProxy
) -> None:
    """Finality takes minutes on a real chain; the wallet's next payment has seconds."""
    shop = await house.start(proxy.url)
    stuck = await shop.claim(await wallet.authorize(house.pay_to, seconds=25))
    proxy.inject("eth_sendRawTransaction", ErrorAnswer(message="pool is full"))
    await shop.step(stuck)
    await local.advance(26)
    (later,) = await claim_many(shop, wallet, 1)
    assert await in_flight(shop, [stuck, later]) == [True, False]
    assert (await shop.step(stuck)).state == S.SIGNED
    assert await in_flight(shop, [stuck, later]) == [False, True]
    proxy.heal()
    await shop.step(stuck)
    assert (await shop.settle(later)).state == S.CREDITED
    await local.mine(3)
    assert (await shop.settle(stuck)).state == S.EXPIRED, "it is watched to its end"


async def test_what_queued_in_the_moment_of_the_handover_is_found(
    any_house: House, wallet: Wallet
) -> None:
    """Two transactions at once do not see each other; the settler sees both."""
    shop = await any_house.start()
    first, second = await claim_many(shop, wallet, 2)

    async def hand_over_to_nobody(session: WriteSession) -> None:
        values = {"in_flight": False, "state": S.REJECTED}
        await session.exec(update(TopUp).where(col(TopUp.id) == first).values(**values))

    await shop.db.write(hand_over_to_nobody)
    assert await in_flight(shop, [first, second]) == [False, False]
    await shop.settle_due()
    assert (await shop.topup(second)).state != S.CLAIMED, "it was promoted"
    assert (await shop.settle(second)).state == S.CREDITED


async def test_a_clock_that_steps_back_does_not_put_off_a_payment(
    house: House, wallet: Wallet, local: LocalChain
) -> None:
    shop = await house.start()
    (topup_id,) = await claim_many(shop, wallet, 1)
    await local.set_automine(on=False)
    assert await shop.settle_due() == 1
    house.clock.advance(-3600)
    assert await shop.settle_due() == 1
    await local.mine()
    assert (await shop.settle(topup_id)).state == S.CREDITED


async def test_another_networks_payments_are_left_alone(
    house: House, wallet: Wallet
) -> None:
    """The operator changed NETWORK; this node knows nothing of those."""
    shop = await house.start()
    (topup_id,) = await claim_many(shop, wallet, 1)

    async def move(session: WriteSession) -> None:
        await session.exec(
            update(TopUp).where(col(TopUp.id) == topup_id).values(chain_id=8453)
        )

    await shop.db.write(move)
    assert await shop.settle_due() == 0
