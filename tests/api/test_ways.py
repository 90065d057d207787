"""What is offered and taken depends on who would settle it, here and elsewhere.

A process without workers learns that from workers, here servers on its database.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from eth_account import Account

from tallystick.chain.deployment import MULTICALL3
from tallystick.chain.local import KEYS, LocalChain, artifact
from tallystick.demo.ports import free_port
from tallystick.samples.facilitator import SampleFacilitator
from tests.api.callers import bearer, give, issue
from tests.api.payments import (
    ANALYST,
    ON_SQLITE,
    Payment,
    books,
    count,
    decode,
    funded,
    reason_of,
    refusal_of,
    serve_honest_payer,
    sign,
)
from tests.api.permitting import PERMIT2_ENTRY, approved, permit_for
from tests.api.test_undeployed_wallets import CREATE, FACTORY, undeployed
from tests.live import Buyer, LiveServer, make_settings, start_server
from tests.payments.facilitators import listening, sample

ADD, PACK = "/api/credits/add", {"pack": "pack_5"}
POOR_KEY = "0x" + "11" * 32
"""A relayer's that has no gas money."""
NOBODY_THERE = "http://127.0.0.1:9"
EIP3009, PERMIT2 = None, "permit2"
ON_POSTGRES = pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
"""For servers whose workers are elsewhere."""
_SECONDS = 30


class Shop:
    """Processes with the same settings but for who settles."""

    def __init__(self, stack: contextlib.AsyncExitStack, url: str, rpc: str) -> None:
        self._stack = stack
        self._same: dict[str, Any] = {
            "database_url": url,
            "rpc_url": rpc,
            "secret_key": "s" * 40,
            "pay_to": Account.create().address,
            "permit2": True,
            "settle_wait": 10,
        }

    async def start(self, **more: Any) -> LiveServer:
        settings = make_settings(port=free_port(), **(self._same | more))
        live = await start_server(settings)
        self._stack.push_async_callback(live.stop)
        return live

    async def without_workers(self, **more: Any) -> LiveServer:
        return await self.start(run_workers=False, relayer_keys=(), **more)

    async def client(self, server: LiveServer) -> httpx.AsyncClient:
        client = httpx.AsyncClient(base_url=server.url, timeout=60)
        return await self._stack.enter_async_context(client)


@pytest.fixture
async def shop(database_url: str, chain: LocalChain) -> AsyncIterator[Shop]:
    async with contextlib.AsyncExitStack() as stack:
        yield Shop(stack, database_url, chain.url)


@pytest.fixture
async def facilitator(chain: LocalChain) -> AsyncIterator[SampleFacilitator]:
    async with sample(chain) as one:
        yield one


def methods_of(answer: httpx.Response) -> list[str | None]:
    """By what the entries for version 2 are paid, without repetitions."""
    header = answer.headers.get("PAYMENT-REQUIRED")
    found = decode(header)["accepts"] if header else []
    return list(dict.fromkeys(one["extra"].get(PERMIT2_ENTRY) for one in found))


async def until_offered(http: httpx.AsyncClient, *methods: str | None) -> None:
    """Wait for what workers have to say."""
    async with asyncio.timeout(_SECONDS):
        while methods_of(await http.post(ADD, json=PACK)) != list(methods):  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.1)


async def entry_of(http: httpx.AsyncClient, method: str | None) -> dict[str, Any]:
    """An entry for a call, made by hand if it is not offered in this way."""
    offered = decode((await http.get(ANALYST)).headers["PAYMENT-REQUIRED"])["accepts"]
    entry: dict[str, Any] = offered[0]
    extra = {one: entry["extra"][one] for one in entry["extra"] if one != PERMIT2_ENTRY}
    return entry | {"extra": extra | ({PERMIT2_ENTRY: method} if method else {})}


async def refused(
    http: httpx.AsyncClient, server: LiveServer, payment: Payment
) -> httpx.Response:
    """The answer of 503 to a payment of which nothing is written."""
    before = await books(server)
    answer = await http.get(ANALYST, headers=payment.headers)
    assert refusal_of(answer) == (503, "top_ups_unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert await books(server) == before
    return answer


@ON_POSTGRES
async def test_what_no_worker_can_settle_is_neither_offered_nor_claimed(
    shop: Shop, chain: LocalChain, facilitator: SampleFacilitator
) -> None:
    """The only worker has a facilitator, which settles no permits, and no key."""
    payer = await approved(chain)
    async with listening(facilitator.app) as there:
        await shop.start(relayer_keys=(), facilitator_url=there.url, permit2=False)
        front = await shop.without_workers()
        http = await shop.client(front)
        await until_offered(http, EIP3009)
        assert methods_of(await http.get(ANALYST)) == [EIP3009]
        _, permit = permit_for(payer, await entry_of(http, PERMIT2))
        told = (await refused(http, front, permit)).json()
        assert told["detail"] == "no relayer key is configured"
        assert "pay now by EIP-3009" in told["next_step"]
        ready = (await http.get("/readyz")).json()
        assert ready["takes_payments"] is True
        expected = "no payment by Permit2: no relayer key is configured"
        assert ready["limited"] == expected
        chain_health = await http.get("/healthz/chain")
        assert chain_health.status_code == 503
        assert expected in chain_health.json()["reasons"]
        await serve_honest_payer(front, chain)
        # A worker with a key makes the difference, and no restart is needed.
        await shop.start()
        await until_offered(http, EIP3009, PERMIT2)
        served = await http.get(ANALYST, headers=permit.headers)
        assert served.status_code == 200, served.text
        assert (await front.audit()).findings == []


@ON_POSTGRES
async def test_permits_are_settled_elsewhere_while_the_facilitator_is_down(
    shop: Shop, chain: LocalChain
) -> None:
    await shop.start(facilitator_url=NOBODY_THERE)
    front = await shop.without_workers()
    await _require_permits_alone(shop, front, chain)


@ON_SQLITE
async def test_permits_are_settled_here_while_the_facilitator_is_down(
    shop: Shop, chain: LocalChain
) -> None:
    await _require_permits_alone(
        shop, await shop.start(facilitator_url=NOBODY_THERE), chain
    )


async def _require_permits_alone(
    shop: Shop, server: LiveServer, chain: LocalChain
) -> None:
    payer, rich = await approved(chain), await funded(chain)
    await give(server, rich, 5)
    http = await shop.client(server)
    await until_offered(http, PERMIT2)
    unpaid = await http.get(ANALYST)
    assert methods_of(unpaid) == [PERMIT2]
    assert "retry-after" not in unpaid.headers
    own = sign(payer, await entry_of(http, EIP3009))
    told = (await refused(http, server, own)).json()
    assert "facilitator" in told["detail"]
    assert "pay now by Permit2" in told["next_step"]
    # Version 1 has no other way, and who has credits needs nobody who settles.
    (entry, *_) = unpaid.json()["accepts"]
    waived = await http.get(ANALYST, headers=sign(rich, entry).headers)
    assert waived.headers["credits-remaining"] == "4"
    _, permit = permit_for(payer, await entry_of(http, PERMIT2))
    served = await http.get(ANALYST, headers=permit.headers)
    assert served.status_code == 200, served.text
    assert await count(server, "topup", "state <> 'credited'") == 0
    ready = (await http.get("/readyz")).json()
    assert ready["takes_payments"] is True
    assert ready["limited"].startswith("no payment by EIP-3009: the facilitator")
    assert (await server.audit()).findings == []


@ON_POSTGRES
async def test_a_worker_without_gas_money_closes_the_ways_that_are_its_own(
    shop: Shop, chain: LocalChain, facilitator: SampleFacilitator
) -> None:
    async with listening(facilitator.app) as there:
        await shop.start(relayer_keys=(POOR_KEY,), facilitator_url=there.url)
        front = await shop.without_workers()
        http = await shop.client(front)
        await until_offered(http, EIP3009)
        ready = (await http.get("/readyz")).json()
        assert ready["limited"].endswith("Permit2: no relayer has money for gas")
        await serve_honest_payer(front, chain)
        assert (await front.audit()).findings == []


@ON_POSTGRES
async def test_a_wallet_that_no_worker_could_deploy_is_not_claimed(
    shop: Shop, chain: LocalChain
) -> None:
    """Its payment is settled by the deployer's key alone, wherever that is."""
    await chain.plant(MULTICALL3, artifact("Multicall"))
    await chain.plant(FACTORY, artifact("WalletFactory"))
    listed = {"wallet_factories": (f"0x{FACTORY.hex()}:0x{CREATE.hex()}",)}
    await shop.start()
    front = await shop.without_workers(**listed)
    http = await shop.client(front)
    await until_offered(http, EIP3009, PERMIT2)
    wallet = await undeployed(chain)
    payment = wallet.wrap(wallet.sign(await entry_of(http, EIP3009)))
    answer = await refused(http, front, payment)
    assert answer.json()["detail"] == "no deployer key is configured"
    await shop.start(deployer_key=f"0x{KEYS[2].hex()}", **listed)
    async with asyncio.timeout(_SECONDS):
        while (shown := await _shown(http, payment)).status_code == 503:  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.2)
    assert shown.status_code == 200, shown.text
    assert await wallet.is_deployed()
    assert await count(front, "topup", "state = 'credited'") == 1
    assert (await front.audit()).findings == []


async def _shown(http: httpx.AsyncClient, payment: Payment) -> httpx.Response:
    return await http.get(ANALYST, headers=payment.headers)


CLOSED: dict[str, tuple[dict[str, Any], str]] = {
    "no gas money": (
        {"relayer_keys": (POOR_KEY,)},
        "no relayer has money for gas",
    ),
    "nothing left of today's budget": (
        {"gas_per_day": 0},
        "the relayers' gas budget of this day is used up",
    ),
    "no facilitator": (
        {"facilitator_url": NOBODY_THERE, "relayer_keys": (), "permit2": False},
        "the facilitator gives no answer (ConnectError)",
    ),
}
closed_ways = pytest.mark.parametrize("why", CLOSED)


async def closed(shop: Shop, why: str) -> tuple[LiveServer, httpx.AsyncClient]:
    server = await shop.start(**CLOSED[why][0])
    return server, await shop.client(server)


@ON_SQLITE
@closed_ways
async def test_a_purchase_that_nobody_could_settle_is_not_offered(
    shop: Shop, why: str
) -> None:
    """503 before anybody signs, as the payment would be answered."""
    server, http = await closed(shop, why)
    before = await books(server)
    answer = await http.post(ADD, json=PACK)
    assert refusal_of(answer) == (503, "top_ups_unavailable")
    assert answer.json()["detail"] == CLOSED[why][1]
    assert int(answer.headers["retry-after"]) > 0
    assert "payment-required" not in answer.headers
    assert await books(server) == before


@ON_SQLITE
@closed_ways
async def test_who_is_known_to_be_short_is_offered_nothing_that_would_be_refused(
    shop: Shop, why: str
) -> None:
    """It stays 402, because that is what he lacks, and says when to come again."""
    server, http = await closed(shop, why)
    wallet = Account.create()
    await give(server, wallet, 0.5)
    by_key = {"headers": bearer(await issue(server, wallet))}
    deduction = {"json": {"feature": "ai_analyst"}}
    for answer in (
        await http.get(ANALYST, **by_key),
        await http.post("/api/credits/deduct", **by_key, **deduction),
    ):
        assert refusal_of(answer) == (402, "insufficient_credits")
        problem = answer.json()
        assert problem["shortfall"] == 0.5
        assert problem["top_ups_unavailable"] == CLOSED[why][1]
        assert "Retry-After" in problem["next_step"]
        assert int(answer.headers["retry-after"]) > 0
        assert {"accepts", "x402Version"} & problem.keys() == set()
        assert "payment-required" not in answer.headers


@ON_SQLITE
@closed_ways
async def test_stock_clients_spend_credits_while_nothing_can_be_settled(
    shop: Shop, chain: LocalChain, why: str
) -> None:
    """Whoever calls may have credits, which he spends by signing for an entry."""
    server, http = await closed(shop, why)
    unpaid = await http.get(ANALYST)
    assert refusal_of(unpaid) == (402, "payment_required")
    assert unpaid.json()["top_ups_unavailable"] == CLOSED[why][1]
    assert "has credits spends them" in unpaid.json()["next_step"]
    assert int(unpaid.headers["retry-after"]) > 0
    rich, poor = Buyer(await funded(chain)), Buyer(await funded(chain))
    await give(server, rich.account, 5)
    before = await books(server)
    async with poor.client(server) as client:
        answer = await client.get(ANALYST)
    assert refusal_of(answer) == (503, "top_ups_unavailable")
    assert await books(server) == before
    async with rich.client(server) as client:
        served = await client.get(ANALYST)
    assert served.status_code == 200, served.text
    assert served.headers["credits-remaining"] == "4"
    assert (await server.audit()).findings == []


@ON_SQLITE
async def test_a_bad_payment_is_refused_for_what_is_wrong_with_it_meanwhile(
    shop: Shop, chain: LocalChain
) -> None:
    """Its payer, who may have credits, is told what to sign instead."""
    server, http = await closed(shop, "no gas money")
    payer, before = await funded(chain), await books(server)
    forged = sign(payer, await entry_of(http, EIP3009), key=Account.create())
    answer = await http.get(ANALYST, headers=forged.headers)
    assert reason_of(answer) == "invalid_exact_evm_payload_signature"
    assert "Retry-After" not in answer.json()["next_step"]
    assert answer.json()["top_ups_unavailable"] == "no relayer has money for gas"
    assert int(answer.headers["retry-after"]) > 0
    assert await books(server) == before


@ON_SQLITE
async def test_with_gas_money_everything_is_offered_again(
    shop: Shop, chain: LocalChain
) -> None:
    server, http = await closed(shop, "no gas money")
    (relayer,) = server.gate.rail.relayers
    await chain.give_gas(relayer.address, 10**18)
    await until_offered(http, EIP3009, PERMIT2)
    unpaid = await http.get(ANALYST)
    assert methods_of(unpaid) == [EIP3009, PERMIT2]
    assert "top_ups_unavailable" not in unpaid.json()
    assert "retry-after" not in unpaid.headers
    await serve_honest_payer(server, chain)
    assert (await server.audit()).findings == []
