"""PAY_TO is changed: what was offered before is still taken, and nothing is mixed up."""

import secrets
from collections.abc import AsyncIterator

import httpx
import pytest
from eth_account import Account

from tallystick.chain.local import LocalChain
from tallystick.claims.models import ClaimState
from tallystick.config import Settings
from tallystick.payments import observer
from tallystick.payments.reconciling.finalized import reconcile_finalized
from tallystick.workers.upkeep import sweep
from tests.api.payments import ON_SQLITE, offer_of, sign
from tests.chain.payer import transfer_call
from tests.house import DOLLAR, RATE, House, Wallet
from tests.live import Buyer, LiveServer, make_settings, start_server
from tests.payments.test_observer import claim_as
from tests.strangers import submit

ADDRESS = "0x" + "11" * 20
CALL = f"/features/ai_analyst?address={ADDRESS}"


class Shop:
    """A server that is stopped and started with other settings, on one database."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.live: LiveServer | None = None

    @property
    def server(self) -> LiveServer:
        assert self.live is not None
        return self.live

    async def start(self, **changed: object) -> LiveServer:
        await self.stop()
        self.settings = self.settings.model_copy(update=changed)
        self.live = await start_server(self.settings)
        return self.live

    async def stop(self) -> None:
        if self.live is not None:
            await self.live.stop()
            self.live = None

    def address(self) -> bytes:
        return bytes.fromhex(str(self.settings.pay_to)[2:])


@pytest.fixture
async def shop(
    database_url: str, chain: LocalChain, free_port: int
) -> AsyncIterator[Shop]:
    """Books that are right when the test is over, for both addresses."""
    one = Shop(make_settings(database_url, chain.url, free_port))
    try:
        await one.start()
        yield one
        live = one.server
        assert (await live.audit()).findings == []
        await chain.mine(4)
        assert (await live.audit()).findings == []
        gate = live.gate
        found = await reconcile_finalized(gate.db, gate.rail, seals=False)
        assert found.findings == []
    finally:
        await one.stop()


def newcomer() -> str:
    return str(Account.create().address)


async def test_a_client_that_was_challenged_before_the_change_pays_after_it(
    shop: Shop, buyer: Buyer, chain: LocalChain
) -> None:
    """A stock client: what it signed for the old address is settled to it."""
    old = shop.address()
    async with httpx.AsyncClient(base_url=shop.server.url, timeout=60) as http:
        offer = await http.get(CALL)
        assert offer.status_code == 402
        paid = await buyer.pay(offer.headers, f"{shop.server.url}{CALL}")
        live = await shop.start(pay_to=newcomer())
        answer = await http.get(CALL, headers=paid)
        assert answer.status_code == 200, answer.text
        assert answer.headers["credits-charged"] == "1"
        # The same client goes on with the new address, and its credits are one balance.
        again = await buyer.client(live).get(CALL)
        assert again.status_code == 200
    report = (await live.audit()).chain
    assert report is not None
    figures = {one.pay_to: one.chain_usdc for one in report.payees}
    assert figures == {old: DOLLAR, shop.address(): 0}


@ON_SQLITE
async def test_a_purchase_that_was_offered_before_the_change_is_settled_after_it(
    shop: Shop, buyer: Buyer
) -> None:
    body = {"amount": 1}
    add = "/api/credits/add"
    async with httpx.AsyncClient(base_url=shop.server.url, timeout=60) as http:
        offer = await http.post(add, json=body)
        assert offer.status_code == 402
        paid = await buyer.pay(offer.headers, f"{shop.server.url}{add}")
        await shop.start(pay_to=newcomer())
        answer = await http.post(add, json=body, headers=paid)
        assert answer.status_code == 200, answer.text
        assert answer.json()["added"] == 10


async def test_a_payment_that_is_under_way_is_brought_to_its_end_after_the_change(
    shop: Shop, buyer: Buyer, chain: LocalChain
) -> None:
    async with httpx.AsyncClient(base_url=shop.server.url, timeout=60) as http:
        offer = await http.get(CALL)
        paid = await buyer.pay(offer.headers, f"{shop.server.url}{CALL}")
        await chain.set_automine(on=False)
        pending = await http.get(CALL, headers=paid | {"Prefer": "respond-async"})
        assert pending.status_code == 202
        await shop.start(pay_to=newcomer())
        await chain.set_automine(on=True)
        await chain.mine()
        answer = await http.get(CALL, headers=paid)
    assert answer.status_code in (200, 409), answer.text
    key = (await shop.server.audit()).chain
    assert key is not None
    assert key.ledger_usdc == DOLLAR


@ON_SQLITE
async def test_a_client_of_version_1_may_be_late_by_as_much_as_a_quote_lives(
    shop: Shop, buyer: Buyer
) -> None:
    """It echoes no quote, so it is the time since the change that counts."""
    async with httpx.AsyncClient(base_url=shop.server.url, timeout=60) as http:
        first, late = [
            sign(buyer.account, await offer_of(http, CALL, version=1), lives=3_000)
            for _ in range(2)
        ]
        live = await shop.start(pay_to=newcomer())
        answer = await http.get(CALL, headers=first.headers)
        assert answer.status_code == 200, answer.text
        live.clock.advance(301)
        refused = await http.get(CALL, headers=late.headers)
        assert refused.status_code == 402
        assert "payee" in refused.text


@ON_SQLITE
async def test_nobody_turns_an_offer_back_to_an_address_that_was_given_up(
    shop: Shop, buyer: Buyer
) -> None:
    """Its key may be in wrong hands: that may be why it was changed."""
    old = str(shop.settings.pay_to)
    live = await shop.start(pay_to=newcomer())
    async with httpx.AsyncClient(base_url=live.url, timeout=60) as http:
        offer = await offer_of(http, CALL)
        honest = sign(buyer.account, offer)
        turned = sign(buyer.account, offer | {"payTo": old})
        assert turned.document["accepted"]["payTo"] == old
        assert (await http.get(CALL, headers=turned.headers)).status_code == 402
        to_old = sign(buyer.account, offer, to=old)
        assert (await http.get(CALL, headers=to_old.headers)).status_code == 402
        assert (await http.get(CALL, headers=honest.headers)).status_code == 200


@ON_SQLITE
async def test_money_that_comes_to_a_former_address_is_in_the_books(
    shop: Shop, chain: LocalChain, buyer: Buyer
) -> None:
    """And what leaves it is the treasury's."""
    old = shop.address()
    await chain.send(buyer.address, chain.token, transfer_call(old, 3 * DOLLAR))
    live = await shop.start(pay_to=newcomer())
    await chain.send(buyer.address, chain.token, transfer_call(old, 2 * DOLLAR))
    new = shop.address()
    await chain.send(buyer.address, chain.token, transfer_call(new, DOLLAR))
    await chain.send(old, chain.token, transfer_call(b"\x0e" * 20, 4 * DOLLAR))
    report = (await live.audit()).chain
    assert report is not None
    figures = {one.pay_to: (one.chain_usdc, one.swept_usdc) for one in report.payees}
    assert figures == {old: (DOLLAR, 4 * DOLLAR), new: (DOLLAR, 0)}
    assert report.ledger_usdc == report.chain_usdc == 2 * DOLLAR


@ON_SQLITE
async def test_an_address_that_is_taken_up_again_goes_on_where_it_was(
    shop: Shop, chain: LocalChain, buyer: Buyer
) -> None:
    old = str(shop.settings.pay_to)
    await shop.start(pay_to=newcomer())
    await chain.send(buyer.address, chain.token, transfer_call(shop.address(), DOLLAR))
    live = await shop.start(pay_to=old)
    await chain.send(buyer.address, chain.token, transfer_call(shop.address(), DOLLAR))
    report = (await live.audit()).chain
    assert report is not None
    assert [one.chain_usdc for one in report.payees] == [DOLLAR, DOLLAR]
    assert report.payees[0].pay_to == shop.address()


async def test_nothing_is_forgotten_before_the_blocks_of_every_address_were_read(
    any_house: House, local: LocalChain
) -> None:
    """Of a payment to a former address somebody else may have made use meanwhile."""
    wallet = await Wallet(local).fund()
    first = await any_house.start()
    signed = await wallet.authorize(any_house.pay_to)
    waived = await claim_as(first, signed, ClaimState.WAIVED)
    any_house.pay_to = secrets.token_bytes(20)
    second = await any_house.start()
    await submit(local, signed)
    await local.advance(2 * 3600)
    # Of two addresses the new one is read, and the node goes away.
    await observer._observe(second.db, second.rail, RATE, hold_seconds=60)
    await sweep(second.db, second.rail)
    await second.observe()
    (topup,) = await second.topups()
    assert (topup.claim_id, topup.state) == (waived, "credited")
    assert await second.credits_of(wallet) == 10 * DOLLAR


async def test_two_addresses_of_books_that_were_mixed_up_add_up(
    any_house: House, local: LocalChain
) -> None:
    """As books of the time before have them: two cursors, one account."""
    wallet = await Wallet(local).fund()
    first = await any_house.start()
    await wallet.send(any_house.pay_to, 2 * DOLLAR)
    await first.observe()
    any_house.pay_to = secrets.token_bytes(20)
    second = await any_house.restart()
    await wallet.send(any_house.pay_to, DOLLAR)
    topup = await second.settle(
        await second.claim(await wallet.authorize(any_house.pay_to))
    )
    assert topup.state == "credited"
    report = (await second.audit()).chain
    assert report is not None
    assert report.findings == []
    assert [one.books_usdc for one in report.payees] == [2 * DOLLAR, 2 * DOLLAR]
    assert report.ledger_usdc == 4 * DOLLAR
