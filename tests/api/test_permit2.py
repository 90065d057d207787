"""Payments by Permit2 at the public door: what is offered, refused and told (A30)."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from tallystick.chain.fault import ANY, ErrorAnswer, FaultProxy
from tallystick.chain.local import LocalChain
from tallystick.chain.permit2 import EXACT_PROXY, PERMIT2, permit_call
from tallystick.chain.token import balance_of
from tallystick.x402.erc6492 import Wrapped, wrap
from tallystick.x402.keccak import checksum_address
from tests.api.payments import (
    ANALYST,
    ON_SQLITE,
    Payment,
    address_of,
    books,
    count,
    decode,
    funded,
    offer_of,
    reason_of,
    refusal_of,
    serve_honest_payer,
    sign,
)
from tests.api.permitting import approved, entries, permit_entry, permit_for
from tests.api.test_bad_input_signatures import compact, high_s
from tests.delegation import delegate, planted
from tests.live import DOLLAR, LiveServer, make_settings, start_server
from tests.permits import by_proxy, submit_together
from tests.strangers import STRANGER

_PERMIT = "payload.permit2Authorization"


@pytest.fixture
async def permitting(
    database_url: str, chain: LocalChain, free_port: int
) -> AsyncIterator[LiveServer]:
    """A server that takes payments by Permit2; honest payers are served at the end."""
    live = await start_server(
        make_settings(database_url, chain.url, free_port, permit2=True)
    )
    try:
        yield live
        live.clock.offset_ms = 0
        await serve_honest_payer(live, chain)
        assert (await live.audit()).findings == []
    finally:
        await live.stop()


@pytest.fixture
async def door(permitting: LiveServer) -> AsyncIterator[httpx.AsyncClient]:
    """A client that pays nothing by itself."""
    async with httpx.AsyncClient(base_url=permitting.url, timeout=60) as client:
        yield client


@pytest.fixture
async def payer(chain: LocalChain) -> LocalAccount:
    """A wallet with $100, all of which Permit2 may move."""
    return await approved(chain)


async def get(http: httpx.AsyncClient, payment: Payment) -> httpx.Response:
    return await http.get(ANALYST, headers=payment.headers)


@ON_SQLITE
async def test_permit2_is_offered_last_and_to_version_2_alone(
    door: httpx.AsyncClient,
) -> None:
    methods = [one["extra"].get("assetTransferMethod") for one in await entries(door)]
    assert methods == [None, None, "permit2", "permit2"]
    offered = await entries(door)
    assert [one["amount"] for one in offered[:2]] == [
        one["amount"] for one in offered[2:]
    ]
    for one in await entries(door, 1):
        assert set(one["extra"]) == {"name", "version"}


@ON_SQLITE
async def test_switched_off_it_is_neither_offered_nor_taken(
    server: LiveServer, payer: LocalAccount, chain: LocalChain
) -> None:
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
        offered = await entries(http)
        assert all(set(one["extra"]) == {"quote", "name", "version"} for one in offered)
        extra = offered[0]["extra"] | {"assetTransferMethod": "permit2"}
        before = await books(server)
        for entry in (offered[0], offered[0] | {"extra": extra}):
            answer = await get(http, permit_for(payer, entry)[1])
            assert reason_of(answer) == "invalid_payment_requirements"
            assert "Permit2 are not taken here" in answer.json()["detail"]
        assert await books(server) == before
    assert await balance_of(chain.chain, address_of(payer)) == 100 * DOLLAR


@ON_SQLITE
async def test_a_pack_is_bought_by_permit2(
    door: httpx.AsyncClient, payer: LocalAccount, permitting: LiveServer
) -> None:
    wanted = {"pack": "pack_5"}
    answer = await door.post("/api/credits/add", json=wanted)
    *_, entry = decode(answer.headers["PAYMENT-REQUIRED"])["accepts"]
    assert entry["extra"]["assetTransferMethod"] == "permit2"
    _, payment = permit_for(payer, entry)
    for _ in range(2):
        bought = await door.post(
            "/api/credits/add", json=wanted, headers=payment.headers
        )
        assert bought.status_code == 200, bought.text
    assert await count(permitting, "topup") == 1


@ON_SQLITE
async def test_a_client_that_leaves_the_quote_out_pays_what_is_offered(
    door: httpx.AsyncClient, payer: LocalAccount
) -> None:
    offered = await permit_entry(door)
    extra = {
        name: offered["extra"][name] for name in offered["extra"] if name != "quote"
    }
    _, payment = permit_for(payer, offered | {"extra": extra})
    assert (await get(door, payment)).status_code == 200


async def test_many_copies_of_a_permit_are_one_payment(
    door: httpx.AsyncClient,
    payer: LocalAccount,
    permitting: LiveServer,
    chain: LocalChain,
) -> None:
    _, payment = permit_for(payer, await permit_entry(door))
    answers = await asyncio.gather(*(get(door, payment) for _ in range(12)))
    assert [one.status_code for one in answers].count(200) == 1
    assert {one.status_code for one in answers} <= {200, 409}
    assert await count(permitting, "claim") == 1
    assert await count(permitting, "relayed_transaction") == 1
    assert await balance_of(chain.chain, address_of(payer)) == 99 * DOLLAR


@ON_SQLITE
async def test_a_settled_permit_is_no_password(
    door: httpx.AsyncClient, payer: LocalAccount
) -> None:
    """Replay after settlement, at the same route and at another."""
    _, payment = permit_for(payer, await permit_entry(door))
    assert (await get(door, payment)).status_code == 200
    again = await get(door, payment)
    assert refusal_of(again) == (409, "payment_already_settled")
    another = ANALYST.replace("11" * 20, "22" * 20)
    elsewhere = await door.get(another, headers=payment.headers)
    assert refusal_of(elsewhere) == (409, "payment_bound_elsewhere")


CONFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another spender": ({"spender": b"\x51" * 20}, "invalid_permit2_spender"),
    "the upto proxy": (
        {"spender": bytes.fromhex("4020A4f3b7b90ccA423B9fabCc0CE57C6C240002")},
        "invalid_permit2_spender",
    ),
    "another payee": ({"pay_to": b"\x77" * 20}, "invalid_permit2_recipient_mismatch"),
    "another token": ({"token": b"\x0d" * 20}, "permit2_token_mismatch"),
    "a cent less": ({"value": 990_000}, "permit2_amount_mismatch"),
    "a cent more": ({"value": 1_010_000}, "permit2_amount_mismatch"),
    "an absurd amount": ({"value": 2**256 - 1}, "permit2_amount_mismatch"),
    "not yet": ({"valid_after": 2**40}, "permit2_not_yet_valid"),
    "absurdly late": ({"valid_after": 2**256 - 1}, "permit2_not_yet_valid"),
    "expired": ({"valid_before": 1}, "permit2_deadline_expired"),
    "for ever": ({"valid_before": 2**256 - 1}, "permit2_deadline_expired"),
}


@ON_SQLITE
@pytest.mark.parametrize("what", CONFUSED)
async def test_what_was_not_signed_for_us_is_refused_by_its_name(
    door: httpx.AsyncClient, payer: LocalAccount, permitting: LiveServer, what: str
) -> None:
    changed, reason = CONFUSED[what]
    before = await books(permitting)
    _, payment = permit_for(payer, await permit_entry(door), **changed)
    assert reason_of(await get(door, payment)) == reason
    assert await books(permitting) == before


@ON_SQLITE
async def test_signatures_of_others_are_refused(
    door: httpx.AsyncClient, payer: LocalAccount, permitting: LiveServer
) -> None:
    entry = await permit_entry(door)
    before = await books(permitting)
    signed, good = permit_for(payer, entry)
    wrapped = wrap(Wrapped(b"\xfa" * 20, b"\0" * 68, good.signature))
    bad = [
        permit_for(payer, entry, key=Account.create())[1],
        permit_for(payer, entry, chain_id=8453)[1],
        good.signed_as(b""),
        good.signed_as(good.signature[:63]),
        good.signed_as(_other_parity(compact(good.signature))),
        good.signed_as(compact(high_s(good.signature))),
        good.signed_as(good.signature + b"\0"),
        good.signed_as(wrapped),
        # The payer's own key, for the token's own method.
        good.signed_as(sign(payer, entry).signature),
        good.saying(f"{_PERMIT}.nonce", str(int.from_bytes(signed.nonce, "big") ^ 1)),
        good.saying(f"{_PERMIT}.deadline", str(signed.valid_before + 1)),
        good.saying(f"{_PERMIT}.witness.validAfter", "1"),
    ]
    for payment in bad:
        assert reason_of(await get(door, payment)) == "invalid_permit2_signature"
    assert await books(permitting) == before
    assert (await get(door, good)).status_code == 200


def _other_parity(folded: bytes) -> bytes:
    return folded[:32] + bytes((folded[32] ^ 0x80,)) + folded[33:]


@ON_SQLITE
async def test_a_compact_signature_pays_as_permit2_takes_it(
    door: httpx.AsyncClient, payer: LocalAccount, permitting: LiveServer
) -> None:
    """Settled and then waived; the whole one of the same permit is no other payment."""
    for left in ("9", "8"):
        _, payment = permit_for(payer, await permit_entry(door))
        folded = payment.signed_as(compact(payment.signature))
        answer = await get(door, folded)
        assert answer.status_code == 200, answer.text
        assert answer.headers["credits-remaining"] == left
    for again in (payment, folded):
        assert (await get(door, again)).headers["credits-remaining"] == "8"
    assert await count(permitting, "topup", "state = 'credited'") == 1
    assert await count(permitting, "claim") == 2


@ON_SQLITE
async def test_a_method_is_paid_by_its_own_entry_alone(
    door: httpx.AsyncClient, payer: LocalAccount, permitting: LiveServer
) -> None:
    before = await books(permitting)
    plain, by_permit = await offer_of(door), await permit_entry(door)
    for payment in (permit_for(payer, plain)[1], sign(payer, by_permit)):
        assert reason_of(await get(door, payment)) == "invalid_payment_requirements"
    both = permit_for(payer, by_permit)[1].saying(
        "payload.authorization", sign(payer, plain).authorization
    )
    assert refusal_of(await get(door, both)) == (400, "malformed_payment")
    assert await books(permitting) == before


@ON_SQLITE
async def test_version_1_knows_no_permits(
    door: httpx.AsyncClient, payer: LocalAccount
) -> None:
    _, payment = permit_for(payer, await permit_entry(door))
    chosen = {"scheme": "exact", "network": "base-sepolia"}
    document = {"x402Version": 1, **chosen, "payload": payment.document["payload"]}
    answer = await get(door, Payment(document, 1))
    assert refusal_of(answer) == (400, "malformed_payment")


@ON_SQLITE
@pytest.mark.parametrize(
    ("path", "value"),
    [
        (f"{_PERMIT}.nonce", "0x01"),
        (f"{_PERMIT}.nonce", "-1"),
        (f"{_PERMIT}.nonce", "01"),
        (f"{_PERMIT}.nonce", str(2**256)),
        (f"{_PERMIT}.nonce", 1),
        (f"{_PERMIT}.deadline", "1e9"),
        (f"{_PERMIT}.permitted", []),
        (f"{_PERMIT}.permitted.amount", "1000000.0"),
        (f"{_PERMIT}.permitted.token", "0x00"),
        (f"{_PERMIT}.witness", None),
        (f"{_PERMIT}.witness.to", "nobody"),
        (f"{_PERMIT}.spender", ""),
        (_PERMIT, "{}"),
    ],
)
async def test_a_malformed_permit_is_400(
    door: httpx.AsyncClient, payer: LocalAccount, path: str, value: Any
) -> None:
    _, payment = permit_for(payer, await permit_entry(door))
    answer = await get(door, payment.saying(path, value))
    assert refusal_of(answer) == (400, "malformed_payment")


@ON_SQLITE
async def test_who_has_approved_nothing_is_told_how(
    door: httpx.AsyncClient, chain: LocalChain, permitting: LiveServer
) -> None:
    wallet = await funded(chain)
    before = await books(permitting)
    answer = await get(door, permit_for(wallet, await permit_entry(door))[1])
    assert refusal_of(answer) == (402, "allowance_missing")
    told = answer.json()
    assert told["reason"] == told["error"] == "permit2_allowance_required"
    assert f"approve({checksum_address(PERMIT2)}, amount)" in told["next_step"]
    assert checksum_address(chain.token) in told["next_step"]
    assert await books(permitting) == before


@ON_SQLITE
async def test_a_contract_wallet_pays_by_what_it_takes_for_its_signature(
    door: httpx.AsyncClient, chain: LocalChain, payer: LocalAccount
) -> None:
    """An account that has delegated: its contract decides, here by the account's key."""
    await delegate(chain, payer, await planted(chain, "SmartWallet"))
    for left in ("9", "8"):
        answer = await get(door, permit_for(payer, await permit_entry(door))[1])
        assert answer.status_code == 200, answer.text
        assert answer.headers["credits-remaining"] == left


@ON_SQLITE
async def test_a_contract_that_disowns_what_its_key_signed_pays_nothing(
    door: httpx.AsyncClient,
    chain: LocalChain,
    payer: LocalAccount,
    permitting: LiveServer,
) -> None:
    await delegate(chain, payer, await planted(chain, "HostileWallet"))
    await chain.write_storage(address_of(payer), 0, bytes([1]))
    before = await books(permitting)
    answer = await get(door, permit_for(payer, await permit_entry(door))[1])
    assert reason_of(answer) == "invalid_permit2_signature"
    assert await books(permitting) == before


async def test_a_permit_that_is_public_by_a_roundabout_way_is_no_password(
    door: httpx.AsyncClient,
    chain: LocalChain,
    payer: LocalAccount,
    permitting: LiveServer,
) -> None:
    """Its calldata is there for everybody, and the observer cannot tell whose it is."""
    entry = await permit_entry(door)
    assert (await get(door, permit_for(payer, entry)[1])).status_code == 200
    signed, payment = permit_for(payer, await permit_entry(door))
    await submit_together(chain, by_proxy((signed, payment.signature)))
    before = await count(permitting, "hold")
    answer = await get(door, payment)
    assert refusal_of(answer) == (409, "payment_already_settled")
    assert await count(permitting, "hold") == before
    assert await count(permitting, "claim", "state = 'waived'") == 0


@ON_SQLITE
async def test_the_answer_to_a_waived_permit_is_not_for_who_reads_it_on_the_chain(
    door: httpx.AsyncClient, chain: LocalChain, payer: LocalAccount
) -> None:
    assert (await get(door, permit_for(payer, await permit_entry(door))[1])).is_success
    signed, payment = permit_for(payer, await permit_entry(door))
    first = await get(door, payment)
    assert first.headers["credits-remaining"] == "8"
    replayed = await get(door, payment)
    assert replayed.status_code == 200
    await submit_together(chain, by_proxy((signed, payment.signature)))
    answer = await get(door, payment)
    assert refusal_of(answer) == (409, "payment_already_settled")


async def test_a_waived_permit_that_somebody_submits_is_credited(
    door: httpx.AsyncClient,
    chain: LocalChain,
    payer: LocalAccount,
    permitting: LiveServer,
) -> None:
    """The evidence wins: its payer has what his money buys."""
    assert (await get(door, permit_for(payer, await permit_entry(door))[1])).is_success
    signed, payment = permit_for(payer, await permit_entry(door))
    assert (await get(door, payment)).status_code == 200
    call = permit_call(signed, payment.signature, signed.token)
    assert (await chain.send(STRANGER, EXACT_PROXY, call)).succeeded
    await permitting.audit()
    assert await count(permitting, "claim", "state = 'overtaken'") == 1
    answer = await get(door, permit_for(payer, await permit_entry(door))[1])
    assert answer.headers["credits-remaining"] == "17"


@ON_SQLITE
async def test_without_a_node_a_permit_proves_nobody_and_loses_nothing(
    database_url: str, chain: LocalChain, free_port: int, payer: LocalAccount
) -> None:
    """Whether it is on the chain nobody can say. Nothing of it is written or used up."""
    async with FaultProxy(chain.url) as node:
        settings = make_settings(database_url, node.url, free_port, permit2=True)
        live = await start_server(settings)
        try:
            async with httpx.AsyncClient(base_url=live.url, timeout=60) as http:
                await _pay_without_a_node(live, http, node, payer)
            assert (await live.audit()).findings == []
        finally:
            await live.stop()


async def _pay_without_a_node(
    live: LiveServer, http: httpx.AsyncClient, node: FaultProxy, payer: LocalAccount
) -> None:
    entry = await permit_entry(http)
    assert (await get(http, permit_for(payer, entry)[1])).status_code == 200
    before = await books(live)
    node.inject(ANY, ErrorAnswer(message="internal error"))
    _, payment = permit_for(payer, entry)
    answer = await get(http, payment)
    assert answer.status_code == 503, answer.text
    assert await books(live) == before
    node.heal()
    again = await get(http, payment)
    assert again.headers["credits-remaining"] == "8"
