"""Stock clients pay by Permit2 where the operator has turned it on."""

from collections.abc import AsyncIterator

import pytest
from eth_account.signers.local import LocalAccount
from x402.http.clients import x402HttpxClient
from x402.mechanisms.evm.exact import ExactEvmScheme
from x402.mechanisms.evm.exact.permit2_utils import create_permit2_payload
from x402.mechanisms.evm.signers import EthAccountSigner
from x402.schemas import PaymentRequirements

from tallystick.chain.local import LocalChain
from tallystick.chain.permit2 import EXACT_PROXY, PERMIT2
from tallystick.chain.token import balance_of
from tallystick.x402.headers import read_payment
from tallystick.x402.permit2 import Permit2Authorization, permit_digest
from tallystick.x402.signature import Recovered, recover
from tests.api.payments import ANALYST, ON_SQLITE, address_of, count, decode, funded
from tests.conformance.node import calls, program_in
from tests.live import DOLLAR, Buyer, LiveServer, make_settings, start_server
from tests.permits import approval, only_permit2
from x402 import x402Client


@pytest.fixture
async def permitting(
    database_url: str, chain: LocalChain, free_port: int
) -> AsyncIterator[LiveServer]:
    """A server that takes payments by Permit2; its audit must pass."""
    live = await start_server(
        make_settings(database_url, chain.url, free_port, permit2=True)
    )
    try:
        yield live
        assert (await live.audit()).findings == []
    finally:
        await live.stop()


async def approved(chain: LocalChain) -> LocalAccount:
    """A wallet that has let Permit2 move its dollars."""
    wallet = await funded(chain)
    await chain.send(address_of(wallet), chain.token, approval(2**255))
    return wallet


@ON_SQLITE
async def test_the_python_client_pays_a_dollar_and_spends_ten_credits(
    permitting: LiveServer, chain: LocalChain
) -> None:
    wallet = await approved(chain)
    payer = x402Client()
    payer.register("eip155:*", ExactEvmScheme(EthAccountSigner(wallet)))
    payer.register_policy(only_permit2)
    told = []
    async with x402HttpxClient(payer, base_url=permitting.url, timeout=60) as client:
        for _ in range(11):
            answer = await client.get(ANALYST)
            assert answer.status_code == 200, answer.text
            told.append(decode(answer.headers["PAYMENT-RESPONSE"]))
    assert [one["amount"] for one in told] == ["1000000", *["0"] * 9, "1000000"]
    assert await balance_of(chain.chain, address_of(wallet)) == 98 * DOLLAR
    paid = f"authority = x'{PERMIT2.hex()}' AND state IN ('credited', 'safe', 'final')"
    assert await count(permitting, "topup", paid) == 2
    assert await count(permitting, "claim", "state = 'waived'") == 9


@ON_SQLITE
async def test_the_javascript_client_pays_a_dollar_and_spends_ten_credits(
    permitting: LiveServer, chain: LocalChain
) -> None:
    program, wallet = program_in("node"), await approved(chain)
    url = permitting.url + ANALYST
    told = await calls(program, wallet, url, 11, method="permit2")
    assert [one["status"] for one in told] == [200] * 11
    paid = [one["payment"]["amount"] for one in told]
    assert paid == ["1000000", *["0"] * 9, "1000000"]
    assert await balance_of(chain.chain, address_of(wallet)) == 98 * DOLLAR
    assert await count(permitting, "topup", "authority IS NOT NULL") == 2


@ON_SQLITE
async def test_a_client_that_may_choose_pays_without_permit2(
    permitting: LiveServer, chain: LocalChain
) -> None:
    """Its wallet has approved nothing, and need not."""
    wallet = await funded(chain)
    async with Buyer(wallet).client(permitting) as client:
        assert (await client.get(ANALYST)).status_code == 200
    program, other = program_in("node"), await funded(chain)
    (told,) = await calls(program, other, permitting.url + ANALYST, 1)
    assert told["status"] == 200
    assert await count(permitting, "topup", "authority IS NOT NULL") == 0
    assert await count(permitting, "topup") == 2


async def test_we_read_and_hash_what_the_stock_client_signs(chain: LocalChain) -> None:
    wallet = await approved(chain)
    entry = {
        "scheme": "exact",
        "network": "eip155:84532",
        "amount": "1000000",
        "asset": f"0x{chain.token.hex()}",
        "payTo": "0x" + "70" * 20,
        "maxTimeoutSeconds": 90,
        "extra": {"assetTransferMethod": "permit2"},
    }
    wanted = PaymentRequirements.model_validate(entry)
    payload = create_permit2_payload(EthAccountSigner(wallet), wanted)
    read = read_payment({"x402Version": 2, "accepted": entry, "payload": payload}, 2)
    signed = read.authorization
    assert isinstance(signed, Permit2Authorization)
    assert (signed.spender, signed.token) == (EXACT_PROXY, chain.token)
    digest = permit_digest(84532, signed)
    assert recover(digest, read.signature) == Recovered(address_of(wallet))
