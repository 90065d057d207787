"""What a lying node has told of a Transfer is put right: each is credited once."""

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

from tallystick.chain import abi
from tallystick.chain.fault import FaultProxy, Rewrite
from tallystick.chain.hexadecimal import to_hex
from tallystick.chain.local import LocalChain
from tallystick.payments.models.topups import TopUp, TopUpState
from tallystick.payments.observing.confirm import confirm
from tallystick.payments.observing.redeeming import Redeemer, redeem
from tallystick.payments.paybacks.origins import PlainTransfer
from tallystick.payments.paybacks.proposing import Proposal, propose
from tallystick.payments.rail import Witness
from tallystick.payments.review import close, look_again, under_review
from tallystick.payments.rules.paybacks import PaybackRules
from tests.house import DOLLAR, PAID, RATE, House, Process, Wallet
from tests.payments.test_observer import suspense
from tests.payments.test_witness import transactions

S = TopUpState
USED = to_hex(abi.AUTHORIZATION_USED)
Tell = Callable[[dict[str, Any]], dict[str, Any] | None]


def telling(tell: Tell) -> Rewrite:
    """A lie about each log; one without an answer is left out."""

    def change(result: Any) -> Any:
        if isinstance(result, dict) and "logs" in result:
            told = [tell(one) for one in result["logs"]]
            return {**result, "logs": [one for one in told if one]}
        if isinstance(result, list):
            return [told for one in result if (told := tell(one))]
        return result

    return Rewrite(change=change)


def lie(proxy: FaultProxy, tell: Tell) -> None:
    for method in ("eth_getLogs", "eth_getTransactionReceipt"):
        proxy.inject(method, telling(tell))


def with_nonce(nonce: bytes) -> Tell:
    def tell(log: dict[str, Any]) -> dict[str, Any]:
        if log["topics"][0] != USED:
            return log
        return {**log, "topics": [*log["topics"][:2], to_hex(nonce)]}

    return tell


def of_payer(payer: bytes, nonce: bytes) -> Tell:
    """The whole pair as somebody else's."""

    def tell(log: dict[str, Any]) -> dict[str, Any]:
        name, _, last = log["topics"]
        his = [name, to_hex(abi.word(payer)), to_hex(nonce) if name == USED else last]
        return {**log, "topics": his}

    return tell


def without_nonce(log: dict[str, Any]) -> dict[str, Any] | None:
    return None if log["topics"][0] == USED else log


async def settle_under(
    shop: Process, proxy: FaultProxy, wallet: Wallet, tell: Tell
) -> int:
    """Pay, while the node tells the pair otherwise; the top-up that is SIGNED."""
    topup_id = await shop.claim(await wallet.authorize(shop.rail.pay_to))
    lie(proxy, tell)
    assert (await shop.until(topup_id, S.SIGNED)).in_flight
    for _ in range(3):
        await shop.step(topup_id)
        await shop.observe()
    return topup_id


async def queue(shop: Process, wallet: Wallet) -> int:
    """Another payment of the wallet, which waits for its lane."""
    queued = await shop.claim(await wallet.authorize(shop.rail.pay_to))
    assert not (await shop.topup(queued)).in_flight
    return queued


async def finalize(shop: Process, local: LocalChain) -> None:
    await local.mine(3)
    await confirm(shop.db, shop.rail)
    await shop.observe()
    await confirm(shop.db, shop.rail)


async def test_a_transfer_told_under_a_nonce_of_nobody_is_credited_once_it_is_told(
    any_house: House, wallet: Wallet, proxy: FaultProxy, local: LocalChain
) -> None:
    """By then it was credited to its payer as a payment that nobody presented."""
    shop = await any_house.start(proxy.url)
    before = await shop.claim(await wallet.authorize(any_house.pay_to))
    await shop.settle(before)
    topup_id = await settle_under(shop, proxy, wallet, with_nonce(bytes(32)))
    queued = await queue(shop, wallet)
    await finalize(shop, local)
    (found,) = [one for one in await shop.topups() if not one.valid_before]
    assert found.state in PAID
    assert (await shop.topup(topup_id)).state == S.SIGNED

    proxy.heal()
    assert (await shop.settle(topup_id)).state == S.CREDITED
    assert (await shop.topup(found.id)).state == S.REVERSED
    assert (await shop.until(found.id, S.EXPIRED)).reason is not None
    assert (await shop.settle(queued)).state == S.CREDITED
    assert await shop.credits_of(wallet) == 30 * DOLLAR
    assert await suspense(shop) == 0


async def test_a_transfer_told_as_another_payments_of_the_wallet_is_moved(
    any_house: House, wallet: Wallet, proxy: FaultProxy
) -> None:
    """The other one is then settled, too: no payment is lost, none credited twice."""
    shop = await any_house.start(proxy.url)
    other = await wallet.authorize(any_house.pay_to)
    topup_id = await settle_under(shop, proxy, wallet, with_nonce(other[0].nonce))
    other_id = await shop.claim(other)
    await shop.observe()
    assert (await shop.topup(other_id)).state == S.CREDITED
    assert await shop.credits_of(wallet) == 10 * DOLLAR

    proxy.heal()
    assert (await shop.settle(topup_id)).state == S.CREDITED
    assert await shop.credits_of(wallet) == 10 * DOLLAR
    reversed_ = await shop.topup(other_id)
    assert (reversed_.state, reversed_.reason) == (S.REVERSED, "told_otherwise")
    assert (await shop.until(other_id, S.CREDITED)).generation == 2
    assert await shop.credits_of(wallet) == 20 * DOLLAR


async def test_a_payment_whose_credits_moved_away_to_it_is_found_again(
    any_house: House, wallet: Wallet, proxy: FaultProxy
) -> None:
    """The lie names a payment that is credited already: its Transfer seems to move."""
    shop = await any_house.start(proxy.url)
    other = await wallet.authorize(any_house.pay_to)
    other_id = await shop.claim(other)
    assert (await shop.settle(other_id)).state == S.CREDITED
    await shop.observe()
    topup_id = await settle_under(shop, proxy, wallet, with_nonce(other[0].nonce))
    proxy.heal()
    assert (await shop.settle(topup_id)).state == S.CREDITED
    assert (await shop.until(other_id, S.CREDITED)).generation == 2
    assert await shop.credits_of(wallet) == 20 * DOLLAR


async def test_a_transfer_told_as_a_plain_one_and_redeemed_becomes_its_top_ups(
    any_house: House, wallet: Wallet, proxy: FaultProxy, local: LocalChain
) -> None:
    """What was spent of it meanwhile is owed, and paid by the same money."""
    shop = await any_house.start(proxy.url)
    topup_id = await settle_under(shop, proxy, wallet, without_nonce)
    queued = await queue(shop, wallet)
    await finalize(shop, local)
    (tx,) = await transactions(shop)
    who = Redeemer(None, wallet.address)
    await redeem(shop.db, shop.rail, RATE, who, tx)
    assert await shop.credits_of(wallet) == 10 * DOLLAR

    proxy.heal()
    assert (await shop.settle(topup_id)).state == S.CREDITED
    assert await shop.credits_of(wallet) == 10 * DOLLAR
    assert (await shop.settle(queued)).state == S.CREDITED
    assert await shop.credits_of(wallet) == 20 * DOLLAR


async def test_what_was_paid_back_meanwhile_is_not_moved_and_can_be_closed(
    any_house: House, wallet: Wallet, proxy: FaultProxy, local: LocalChain
) -> None:
    """Its dollar is on its way home, so it can be nobody's credits any more."""
    rules = PaybackRules(20 * DOLLAR, 10 * DOLLAR, 15 * DOLLAR)
    shop = await any_house.start(proxy.url, paybacks=rules)
    topup_id = await settle_under(shop, proxy, wallet, without_nonce)
    await finalize(shop, local)
    (tx,) = await transactions(shop)
    await redeem(shop.db, shop.rail, RATE, Redeemer(None, wallet.address), tx)
    wanted = Proposal(None, "ann", "by mail", transfer=PlainTransfer(tx))
    await propose(shop.db, shop.rail, wanted)
    proxy.heal()
    topup = await shop.settle(topup_id)
    assert (topup.state, topup.reason) == (S.QUARANTINE, "booked_elsewhere")
    await shop.db.write(lambda session: look_again(session, topup_id))
    assert (await shop.settle(topup_id)).state == S.QUARANTINE
    await shop.db.write(lambda session: close(session, topup_id))
    assert (await shop.topup(topup_id)).state == S.CANCELED
    assert await shop.credits_of(wallet) == 0


async def stolen(
    shop: Process, proxy: FaultProxy, local: LocalChain, wallet: Wallet
) -> tuple[Wallet, int, int]:
    """Told as the payment of somebody else, who was credited; he, his and the real."""
    thief = await Wallet(local).fund()
    signed = await thief.authorize(shop.rail.pay_to)
    topup_id = await shop.claim(await wallet.authorize(shop.rail.pay_to))
    lie(proxy, of_payer(thief.address, signed[0].nonce))
    await shop.until(topup_id, S.SIGNED)
    await shop.step(topup_id)
    his = await shop.claim(signed)
    await shop.observe()
    assert (await shop.topup(his)).state == S.CREDITED
    proxy.heal()
    return thief, his, topup_id


async def test_from_another_customer_nothing_is_taken_on_the_word_of_one_provider(
    any_house: House, wallet: Wallet, proxy: FaultProxy, local: LocalChain
) -> None:
    """It goes to a person, whose release is the second voice, and the lane goes on."""
    shop = await any_house.start(proxy.url)
    thief, his, topup_id = await stolen(shop, proxy, local, wallet)
    queued = await queue(shop, wallet)
    topup = await shop.settle(topup_id)
    assert (topup.state, topup.reason) == (S.QUARANTINE, "booked_elsewhere")
    assert not topup.in_flight
    assert (await shop.settle(queued)).state == S.CREDITED
    assert (await shop.topup(his)).state == S.CREDITED
    async with shop.db.read() as session:
        (one,) = await under_review(session)
    assert "release" in one.remedy

    await shop.db.write(lambda session: look_again(session, topup_id))
    assert (await shop.settle(topup_id)).state == S.CREDITED
    assert await shop.credits_of(wallet) == 20 * DOLLAR
    assert (await shop.topup(his)).state == S.REVERSED
    assert await shop.credits_of(thief) == 0
    assert (await shop.until(his, S.CREDITED)).generation == 2, "and is now settled"


async def test_a_witness_that_agrees_is_the_second_voice(
    any_house: House, wallet: Wallet, proxy: FaultProxy, local: LocalChain
) -> None:
    """Also for amounts of which it is not asked otherwise."""
    async with FaultProxy(local.url) as second:
        nodes = local.open_chain(second.url)
        shop = await any_house.start(proxy.url, witness=Witness(nodes, 50 * DOLLAR))
        thief, his, topup_id = await stolen(shop, proxy, local, wallet)
        await second.down()
        waits = await shop.step(topup_id)
        assert (waits.state, waits.reason) == (S.SIGNED, "waits_for_a_witness")
        assert not waits.in_flight
        await second.up()
        shop.rail.outlook.witness_rests_until = 0.0
        assert (await shop.settle(topup_id)).state == S.CREDITED
        assert await shop.credits_of(wallet) == 10 * DOLLAR
        assert await shop.credits_of(thief) == 0
        assert (await shop.topup(his)).state == S.REVERSED


async def test_a_lie_of_today_takes_nothing_from_whom_the_truth_has_credited(
    any_house: House, wallet: Wallet, proxy: FaultProxy, local: LocalChain
) -> None:
    """The node told the truth first, and then a thief's nonce for the same log."""
    shop = await any_house.start(proxy.url)
    topup_id = await shop.claim(await wallet.authorize(any_house.pay_to))
    assert (await shop.settle(topup_id)).state == S.CREDITED
    thief = await Wallet(local).fund()
    signed = await thief.authorize(any_house.pay_to)
    his = await shop.claim(signed)

    def with_thief(log: dict[str, Any]) -> dict[str, Any]:
        if log["topics"][1] != to_hex(abi.word(wallet.address)):
            return log
        return of_payer(thief.address, signed[0].nonce)(log)

    lie(proxy, with_thief)
    await shop.observe()
    assert (await shop.topup(his)).reason == "booked_elsewhere"
    assert (await shop.topup(topup_id)).state in PAID
    assert await shop.credits_of(wallet) == 10 * DOLLAR
    proxy.heal()
    await shop.db.write(lambda session: look_again(session, his))
    assert (await shop.settle(his)).state == S.CREDITED
    assert await shop.credits_of(thief) == 10 * DOLLAR
    assert await shop.credits_of(wallet) == 10 * DOLLAR


def paid(topups: list[TopUp]) -> int:
    return sum(one.state in PAID for one in topups)


async def test_it_moves_once_however_many_look(
    any_house: House, wallet: Wallet, proxy: FaultProxy
) -> None:
    shop = await any_house.start(proxy.url)
    other = await wallet.authorize(any_house.pay_to, nonce=secrets.token_bytes(32))
    topup_id = await settle_under(shop, proxy, wallet, with_nonce(other[0].nonce))
    other_id = await shop.claim(other)
    await shop.observe()
    assert (await shop.topup(other_id)).state == S.CREDITED
    proxy.heal()
    second = await any_house.start(proxy.url, relayers=())
    looks = [one.step(topup_id) for one in (shop, second) for _ in range(3)]
    await asyncio.gather(*looks)
    assert (await shop.topup(topup_id)).state == S.CREDITED
    assert paid(await shop.topups()) == 1
    assert await shop.credits_of(wallet) == 10 * DOLLAR
    assert (await shop.until(other_id, S.CREDITED)).generation == 2
