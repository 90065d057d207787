"""Signatures that the payer's key did not make, or not in the one form (A26, A28)."""

import httpx
from eth_account import Account
from eth_account.signers.local import LocalAccount

from tallystick.chain.local import LocalChain, artifact
from tallystick.x402.signature import ORDER
from tests.api.payments import (
    ADDRESS,
    ANALYST,
    ON_SQLITE,
    Payment,
    address_of,
    books,
    buy,
    count,
    fund,
    offer_of,
    reason_of,
    sign,
)
from tests.live import LiveServer

pytestmark = ON_SQLITE
SIGNATURE = "invalid_exact_evm_payload_signature"


def high_s(signature: bytes) -> bytes:
    """The other signature of the same key over the same digest."""
    s = ORDER - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes((55 - signature[64],))


def compact(signature: bytes) -> bytes:
    """As in EIP-2098: the parity in the highest bit of s."""
    parity = (signature[64] - 27) << 7
    return signature[:32] + bytes((signature[32] | parity,)) + signature[33:64]


def forged(good: Payment) -> dict[str, Payment]:
    own = good.signature
    r, s, v = own[:32], own[32:64], own[64:]
    suffix = bytes.fromhex("6492" * 16)
    return {
        "upper half of s": good.signed_as(high_s(own)),
        "v of 0 or 1": good.signed_as(r + s + bytes((own[64] - 27,))),
        "the other v": good.signed_as(r + s + bytes((55 - own[64],))),
        "v of 29": good.signed_as(r + s + b"\x1d"),
        "v of EIP-155": good.signed_as(r + s + b"\x25"),
        "compact": good.signed_as(compact(own)),
        "no signature": good.signed_as(b""),
        "one byte": good.signed_as(b"\x01"),
        "64 bytes": good.signed_as(r + s),
        "66 bytes": good.signed_as(own + b"\x00"),
        "r of zero": good.signed_as(bytes(32) + s + v),
        "s of zero": good.signed_as(r + bytes(32) + v),
        "all zeros": good.signed_as(bytes(65)),
        "r of the order": good.signed_as(ORDER.to_bytes(32, "big") + s + v),
        "all ones": good.signed_as(b"\xff" * 64 + v),
        "a flipped bit": good.signed_as(bytes((own[0] ^ 1,)) + own[1:]),
        "wrapped as in ERC-6492": good.signed_as(own + suffix),
    }


def by_others(wallet: LocalAccount, entry: dict[str, object]) -> dict[str, Payment]:
    """Signed by another key, or for another contract, chain or purpose."""
    thief: LocalAccount = Account.create()
    return {
        "another key": sign(wallet, entry, key=thief),
        "another chain": sign(wallet, entry, domain={"chainId": 8453}),
        "another contract": sign(
            wallet, entry, domain={"verifyingContract": wallet.address}
        ),
        "another token's name": sign(wallet, entry, domain={"name": "USD Coin"}),
        "another token's version": sign(wallet, entry, domain={"version": "1"}),
        "to receive, not to transfer": sign(
            wallet, entry, primary_type="ReceiveWithAuthorization"
        ),
        "somebody else's words": sign(thief, entry).saying(
            "payload.authorization.from", wallet.address
        ),
        "another value": sign(wallet, entry, value=1).saying(
            "payload.authorization.value", "1000000"
        ),
        "another nonce": sign(wallet, entry).saying(
            "payload.authorization.nonce", "0x" + "77" * 32
        ),
    }


async def test_a_signature_that_the_token_would_refuse_is_refused(
    http: httpx.AsyncClient, attacked: LiveServer, wallet: LocalAccount
) -> None:
    sent = forged(sign(wallet, await offer_of(http)))
    before = await books(attacked)
    found = {
        name: reason_of(await http.get(ANALYST, headers=one.headers))
        for name, one in sent.items()
    }
    assert found == dict.fromkeys(sent, SIGNATURE)
    assert await books(attacked) == before


async def test_what_the_payer_did_not_sign_is_refused(
    http: httpx.AsyncClient, attacked: LiveServer, wallet: LocalAccount
) -> None:
    sent = by_others(wallet, await offer_of(http))
    before = await books(attacked)
    found = {
        name: reason_of(await http.get(ANALYST, headers=one.headers))
        for name, one in sent.items()
    }
    assert found == dict.fromkeys(sent, SIGNATURE)
    assert await books(attacked) == before


async def test_a_wallet_with_credits_cannot_be_spent_by_a_forged_payment(
    http: httpx.AsyncClient, attacked: LiveServer, wallet: LocalAccount
) -> None:
    await buy(http, wallet)
    entry = await offer_of(http)
    sent = forged(sign(wallet, entry)) | by_others(wallet, entry)
    before = await books(attacked)
    for one in sent.values():
        answer = await http.get(ANALYST, headers=one.headers)
        assert reason_of(answer) == SIGNATURE
        assert "50" not in (str(answer.json()["credits"]), answer.json()["detail"])
    assert await books(attacked) == before


async def test_nobody_can_guess_a_wallets_credits_by_unsigned_payments(
    http: httpx.AsyncClient, wallet: LocalAccount
) -> None:
    """What is short is offered to the payer alone; version 1 names it by the value."""
    await buy(http, wallet)
    tokens = ",".join(f"0x{n:040x}" for n in range(1, 101))
    path = f"/features/portfolio_audit?owner={ADDRESS}&tokens={tokens},{ADDRESS}"
    assert (await http.get(path)).status_code == 422
    path = path.removesuffix(f",{ADDRESS}")
    spent = sign(wallet, await offer_of(http))
    assert (await http.get(ANALYST, headers=spent.headers)).status_code == 200
    entry = await offer_of(http, path, version=1)
    # A credit is short, so ten cents are what would be taken from the wallet's owner.
    own = sign(wallet, entry, value=100_000)
    for one in (own, own.saying("payload.authorization.value", "99999")):
        forged_one = one.signed_as(high_s(one.signature))
        answer = await http.get(path, headers=forged_one.headers)
        assert reason_of(answer) == SIGNATURE
    for document in (own.document, sign(wallet, entry, value=99_999).document):
        thief: LocalAccount = Account.create()
        guess = Payment(document, 1).signed_as(sign(thief, entry, key=thief).signature)
        assert reason_of(await http.get(path, headers=guess.headers)) == SIGNATURE
    served = await http.get(path, headers=own.headers)
    assert served.status_code == 200, served.text


async def test_the_true_signature_still_counts_after_a_hundred_forgeries(
    http: httpx.AsyncClient, wallet: LocalAccount
) -> None:
    good = sign(wallet, await offer_of(http))
    for one in forged(good).values():
        assert (await http.get(ANALYST, headers=one.headers)).status_code == 402
    answer = await http.get(ANALYST, headers=good.headers)
    assert answer.status_code == 200, answer.text


async def test_another_form_of_a_settled_signature_is_not_a_second_payment(
    http: httpx.AsyncClient, attacked: LiveServer, wallet: LocalAccount
) -> None:
    good = sign(wallet, await offer_of(http))
    assert (await http.get(ANALYST, headers=good.headers)).status_code == 200
    for one in forged(good).values():
        assert (await http.get(ANALYST, headers=one.headers)).status_code == 409
    assert await count(attacked, "claim") == 1
    assert await count(attacked, "ledger_transaction", "kind = 'charge'") == 1


async def test_a_contract_wallet_that_says_no_pays_nothing(
    http: httpx.AsyncClient, attacked: LiveServer, chain: LocalChain
) -> None:
    """Its owner is nobody, so its contract takes no signature (EIP-1271)."""
    wallet: LocalAccount = Account.create()
    await chain.plant(address_of(wallet), artifact("SmartWallet"))
    await fund(chain, wallet)
    entry = await offer_of(http)
    stranger: LocalAccount = Account.create()
    before = await books(attacked)
    answer = await http.get(ANALYST, headers=sign(wallet, entry, key=stranger).headers)
    assert reason_of(answer) == SIGNATURE
    assert await books(attacked) == before
