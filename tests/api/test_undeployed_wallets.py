"""Wallets that are deployed with their first payment (ERC-6492; A28, A29)."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from tallystick.chain.abi import selector, word
from tallystick.chain.deployment import MULTICALL3
from tallystick.chain.local import ADDRESSES, KEYS, LocalChain, artifact
from tallystick.chain.token import balance_of
from tallystick.kernel.money import UsdcAtomic
from tallystick.payments.gas.solvency import check_gas
from tallystick.x402.erc6492 import Wrapped, wrap
from tallystick.x402.keccak import checksum_address
from tests.api.payments import (
    ANALYST,
    ON_SQLITE,
    Payment,
    address_of,
    books,
    count,
    offer_of,
    reason_of,
    refusal_of,
    serve_honest_payer,
    sign,
    until_written,
)
from tests.api.test_contract_wallets import MOODS, ONLY_IN_SIMULATION, SIGNATURE
from tests.live import DOLLAR, LiveServer, make_settings, start_server

pytestmark = ON_SQLITE
RELAYER, DEPLOYER = 1, 2
FACTORY, HOSTILE, VANISHING = (
    bytes.fromhex(f"{n:02x}" * 20) for n in (0xFA, 0xEE, 0xDD)
)
CREATE = selector("create(address,bytes32)")
CREATE_HOSTILE = selector("create(uint8,bytes32)")
BURN, FLOOD, REFUSE = (selector(f"{name}()") for name in ("burn", "flood", "refuse"))
ALLOWED = [
    (FACTORY, CREATE),
    *[(HOSTILE, one) for one in (CREATE_HOSTILE, BURN, FLOOD, REFUSE)],
    (VANISHING, CREATE),
]
SELFDESTRUCT = bytes.fromhex("33ff")


@dataclass(frozen=True)
class Undeployed:
    """A wallet with dollars and no code yet, and what would deploy it."""

    chain: LocalChain
    address: bytes
    owner: LocalAccount
    calldata: bytes
    factory: bytes = FACTORY

    def sign(
        self, entry: dict[str, Any], *, key: LocalAccount | None = None
    ) -> Payment:
        """What the owner signs, not wrapped."""
        sender = {"from": checksum_address(self.address)}
        return sign(self.owner, entry, key=key or self.owner, **sender)

    def wrap(self, payment: Payment, **changed: bytes) -> Payment:
        parts = {"factory": self.factory, "calldata": self.calldata} | changed
        return payment.signed_as(wrap(Wrapped(inner=payment.signature, **parts)))

    async def left(self) -> int:
        return await balance_of(self.chain.chain, self.address)

    async def is_deployed(self) -> bool:
        return bool(await self.chain.chain.code_at(self.address))


async def undeployed(
    chain: LocalChain, *, factory: bytes = FACTORY, mood: int | None = None
) -> Undeployed:
    """A wallet of $100 at the address where its factory would put it."""
    owner: LocalAccount = Account.create()
    salt = address_of(owner).ljust(32, b"\0")
    place = selector("addressOf(address,bytes32)") + word(address_of(owner)) + salt
    calldata = CREATE + word(address_of(owner)) + salt
    if mood is not None:
        factory = HOSTILE
        place = selector("addressOf(bytes32)") + salt
        calldata = CREATE_HOSTILE + word(mood) + salt
    planted = HOSTILE if mood is not None else FACTORY
    address = (await chain.chain.call(planted, place))[12:]
    await chain.mint(address, UsdcAtomic(100 * DOLLAR))
    return Undeployed(chain, address, owner, calldata, factory)


@pytest.fixture
async def shop(
    database_url: str, chain: LocalChain, free_port: int
) -> AsyncIterator[LiveServer]:
    """A server that lets these factories deploy; hostile ones are among them."""
    await chain.plant(MULTICALL3, artifact("Multicall"))
    await chain.plant(FACTORY, artifact("WalletFactory"))
    await chain.plant(HOSTILE, artifact("HostileFactory"))
    await chain.plant(VANISHING, SELFDESTRUCT)
    live = await start_server(
        make_settings(
            database_url,
            chain.url,
            free_port,
            deployer_key=f"0x{KEYS[DEPLOYER].hex()}",
            wallet_factories=tuple(f"0x{a.hex()}:0x{b.hex()}" for a, b in ALLOWED),
        )
    )
    try:
        yield live
        await serve_honest_payer(live, chain)
        assert (await live.audit()).findings == []
    finally:
        await live.stop()


@pytest.fixture
async def http(shop: LiveServer) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=shop.url, timeout=60) as client:
        yield client


async def senders(chain: LocalChain) -> dict[str, int]:
    """How many transactions our two keys have sent."""
    found = {}
    for name, number in (("relayer", RELAYER), ("deployer", DEPLOYER)):
        found[name] = await chain.chain.nonce(ADDRESSES[number], "latest")
    return found


async def test_a_wallet_is_deployed_with_its_first_payment(
    http: httpx.AsyncClient, shop: LiveServer, chain: LocalChain
) -> None:
    wallet = await undeployed(chain)
    assert not await wallet.is_deployed()
    payment = wallet.wrap(wallet.sign(await offer_of(http)))
    answer = await http.get(ANALYST, headers=payment.headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["credits-remaining"] == "9"
    assert await wallet.is_deployed()
    assert await wallet.left() == 99 * DOLLAR
    assert await senders(chain) == {"relayer": 0, "deployer": 1}
    # From now on it is a contract wallet as any other, and its credits pay.
    payment = wallet.sign(await offer_of(http))
    answer = await http.get(ANALYST, headers=payment.headers)
    assert answer.headers["credits-remaining"] == "8"
    assert await count(shop, "claim", "state = 'waived'") == 1
    assert await wallet.left() == 99 * DOLLAR


async def test_a_wrapped_payment_is_never_waived(
    http: httpx.AsyncClient, shop: LiveServer, chain: LocalChain
) -> None:
    """Nor is the answer of a waived one replayed to it (ruling 3)."""
    wallet = await undeployed(chain)
    for dollars_left in (99, 98):
        payment = wallet.wrap(wallet.sign(await offer_of(http)))
        answer = await http.get(ANALYST, headers=payment.headers)
        assert answer.status_code == 200, answer.text
        assert await wallet.left() == dollars_left * DOLLAR
    assert await count(shop, "claim", "state = 'waived'") == 0
    # The second time the wallet was there, so an ordinary relayer settled.
    assert await senders(chain) == {"relayer": 1, "deployer": 1}
    waived = wallet.sign(await offer_of(http))
    assert (await http.get(ANALYST, headers=waived.headers)).status_code == 200
    copy = await http.get(ANALYST, headers=wallet.wrap(waived).headers)
    assert reason_of(copy) == SIGNATURE


async def test_copies_at_once_are_one_deployment_and_one_credit(
    http: httpx.AsyncClient, shop: LiveServer, chain: LocalChain
) -> None:
    wallet = await undeployed(chain)
    path, body = "/api/credits/add", {"pack": "pack_5"}
    entry = await offer_of(http, path, method="POST", json=body)
    payment = wallet.wrap(wallet.sign(entry))
    copies = [http.post(path, json=body, headers=payment.headers) for _ in range(5)]
    answers = await asyncio.gather(*copies)
    assert [one.status_code for one in answers] == [200] * 5
    assert await wallet.left() == 95 * DOLLAR
    assert await count(shop, "credit_grant") == 1
    assert await senders(chain) == {"relayer": 0, "deployer": 1}


async def test_a_wallet_that_somebody_deploys_meanwhile_pays_all_the_same(
    http: httpx.AsyncClient, shop: LiveServer, chain: LocalChain
) -> None:
    wallet = await undeployed(chain)
    payment = wallet.wrap(wallet.sign(await offer_of(http)))
    await chain.set_automine(on=False)
    waits_not = {"Prefer": "respond-async"}
    answer = await http.get(ANALYST, headers=payment.headers | waits_not)
    assert answer.status_code == 202
    await until_written(shop, "relayed_transaction")
    await chain.plant(wallet.address, artifact("SmartWallet"))
    await chain.write_storage(wallet.address, 0, address_of(wallet.owner))
    await chain.set_automine(on=True)
    await chain.mine()
    await until_written(shop, "credit_grant")
    assert await wallet.left() == 99 * DOLLAR


def _forgeries(wallet: Undeployed, good: Payment, token: bytes) -> dict[str, Payment]:
    owner = address_of(wallet.owner)
    drain = selector("transfer(address,uint256)") + word(owner) + word(1)
    execute = selector("execute(address,uint256,bytes)")
    nested = wallet.wrap(wallet.wrap(good))
    own = wallet.wrap(good).signature
    return {
        "the token is the factory": wallet.wrap(good, factory=token, calldata=drain),
        "Multicall3 is the factory": wallet.wrap(good, factory=MULTICALL3),
        "a wallet is the factory": wallet.wrap(good, factory=owner, calldata=execute),
        "another function": wallet.wrap(good, calldata=b"\0\0\0\0" + bytes(64)),
        "no function": wallet.wrap(good, calldata=b"\xff"),
        "another factory's function": wallet.wrap(good, calldata=BURN),
        "wrapped twice": nested,
        "junk before the suffix": good.signed_as(own[:-40] + own[-32:]),
        "nothing but the suffix": good.signed_as(own[-32:]),
        "dirty factory word": good.signed_as(b"\x01" + own[1:]),
    }


async def test_no_call_but_the_listed_ones_is_ever_made(
    http: httpx.AsyncClient, shop: LiveServer, chain: LocalChain
) -> None:
    wallet = await undeployed(chain)
    good = wallet.sign(await offer_of(http))
    before = await books(shop)
    for name, forged in _forgeries(wallet, good, chain.token).items():
        answer = await http.get(ANALYST, headers=forged.headers)
        assert reason_of(answer) == SIGNATURE, name
    assert await books(shop) == before
    assert await senders(chain) == {"relayer": 0, "deployer": 0}
    # The bytes that were forged from are good.
    answer = await http.get(ANALYST, headers=wallet.wrap(good).headers)
    assert answer.status_code == 200, answer.text


async def test_a_forged_signature_in_a_true_wrapper_pays_nothing(
    http: httpx.AsyncClient, shop: LiveServer, chain: LocalChain
) -> None:
    """Neither in the name of an undeployed wallet nor in that of a key (A28)."""
    wallet, other = await undeployed(chain), await undeployed(chain)
    thief: LocalAccount = Account.create()
    rich: LocalAccount = Account.create()
    await chain.mint(address_of(rich), UsdcAtomic(100 * DOLLAR))
    entry = await offer_of(http)
    by_thief = wallet.sign(entry, key=thief)
    of_key = sign(rich, entry, key=thief)
    sent = [
        wallet.wrap(by_thief),
        wallet.wrap(by_thief.signed_as(b"")),
        wallet.wrap(by_thief.signed_as(b"\x01" * 80)),
        # The wallet that it deploys is another's.
        other.wrap(wallet.sign(entry)),
        wallet.wrap(of_key),
        # A key that signs has no contract, whatever is deployed beside it.
        wallet.wrap(sign(rich, entry)),
    ]
    before = await books(shop)
    for payment in sent:
        answer = await http.get(ANALYST, headers=payment.headers)
        assert reason_of(answer) == SIGNATURE
    assert await books(shop) == before
    assert await senders(chain) == {"relayer": 0, "deployer": 0}
    assert not await wallet.is_deployed()


HOSTILITIES: dict[str, Callable[[Undeployed], dict[str, bytes]]] = {
    "burns all gas": lambda _: {"factory": HOSTILE, "calldata": BURN},
    "floods": lambda _: {"factory": HOSTILE, "calldata": FLOOD},
    "reverts": lambda _: {"factory": HOSTILE, "calldata": REFUSE},
    "destroys itself": lambda one: {"factory": VANISHING, "calldata": one.calldata},
}


async def test_a_listed_factory_that_deploys_nothing_gets_no_transaction(
    http: httpx.AsyncClient, shop: LiveServer, chain: LocalChain
) -> None:
    wallet = await undeployed(chain)
    good = wallet.sign(await offer_of(http))
    before = await books(shop)
    for name, hostility in HOSTILITIES.items():
        began = time.monotonic()
        payment = wallet.wrap(good, **hostility(wallet))
        answer = await http.get(ANALYST, headers=payment.headers)
        assert reason_of(answer) == SIGNATURE, name
        assert time.monotonic() - began < 2.5, name
    assert await books(shop) == before
    assert await senders(chain) == {"relayer": 0, "deployer": 0}


async def test_a_hostile_wallet_of_a_listed_factory_gets_no_transaction(
    http: httpx.AsyncClient, shop: LiveServer, chain: LocalChain
) -> None:
    before = await books(shop)
    for name, mood in MOODS.items():
        wallet = await undeployed(chain, mood=mood)
        payment = wallet.wrap(wallet.sign(await offer_of(http)))
        began = time.monotonic()
        answer = await http.get(ANALYST, headers=payment.headers)
        assert reason_of(answer) == SIGNATURE, name
        assert time.monotonic() - began < 2.5, name
    assert await books(shop) == before
    assert await senders(chain) == {"relayer": 0, "deployer": 0}


async def test_a_wallet_that_lies_to_the_rehearsal_costs_one_revert_and_stays_undeployed(
    http: httpx.AsyncClient, shop: LiveServer, chain: LocalChain
) -> None:
    wallet = await undeployed(chain, mood=ONLY_IN_SIMULATION)
    payment = wallet.wrap(wallet.sign(await offer_of(http)))
    waits_not = {"Prefer": "respond-async"}
    answer = await http.get(ANALYST, headers=payment.headers | waits_not)
    assert answer.status_code == 202
    await until_written(shop, "topup", "state = 'watch'")
    for _ in range(4):
        await chain.mine()
        await asyncio.sleep(0.1)  # in which it is looked at once more
        copy = await http.get(ANALYST, headers=payment.headers)
        assert copy.status_code in (402, 409)
    assert await count(shop, "relayed_transaction") == 1
    assert await count(shop, "credit_grant") == 0
    assert not await wallet.is_deployed()


async def test_a_deployer_without_gas_takes_no_payment_and_stops_no_other(
    http: httpx.AsyncClient, shop: LiveServer, chain: LocalChain
) -> None:
    wallet = await undeployed(chain)
    await chain.give_gas(ADDRESSES[DEPLOYER], 1)
    await check_gas(shop.gate.rail)
    payment = wallet.wrap(wallet.sign(await offer_of(http)))
    answer = await http.get(ANALYST, headers=payment.headers)
    assert refusal_of(answer) == (503, "top_ups_unavailable")
    assert await count(shop, "claim") == 0
    await serve_honest_payer(shop, chain)


async def test_nothing_wrapped_is_accepted_unless_a_factory_is_listed(
    server: LiveServer, chain: LocalChain
) -> None:
    await chain.plant(MULTICALL3, artifact("Multicall"))
    await chain.plant(FACTORY, artifact("WalletFactory"))
    wallet = await undeployed(chain)
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
        payment = wallet.wrap(wallet.sign(await offer_of(http)))
        answer = await http.get(ANALYST, headers=payment.headers)
        assert reason_of(answer) == SIGNATURE
    assert await count(server, "claim") == 0
