"""Payments by Permit2 at the public door, made by hand."""

import time
from dataclasses import replace
from typing import Any

import httpx
from eth_account import Account
from eth_account.signers.local import LocalAccount

from tallystick.chain.local import LocalChain
from tallystick.chain.permit2 import EXACT_PROXY
from tallystick.x402.keccak import checksum_address
from tallystick.x402.permit2 import Permit2Authorization
from tests.api.payments import ANALYST, Payment, address_of, decode, funded
from tests.permits import approval, sign_permit

PERMIT2_ENTRY = "assetTransferMethod"
"""The member of an entry's ``extra`` that tells by what it is paid."""


async def approved(chain: LocalChain) -> LocalAccount:
    """A wallet with $100, all of which Permit2 may move."""
    wallet = await funded(chain)
    await chain.send(address_of(wallet), chain.token, approval(2**255))
    return wallet


async def entries(http: httpx.AsyncClient, version: int = 2) -> list[dict[str, Any]]:
    answer = await http.get(ANALYST)
    assert answer.status_code == 402
    document = answer.json()
    if version == 2:
        document = decode(answer.headers["PAYMENT-REQUIRED"])
    found: list[dict[str, Any]] = document["accepts"]
    return found


async def permit_entry(http: httpx.AsyncClient) -> dict[str, Any]:
    """The first entry that is paid by Permit2."""
    found = await entries(http)
    return next(one for one in found if PERMIT2_ENTRY in one["extra"])


def permit_for(
    payer: LocalAccount,
    entry: dict[str, Any],
    *,
    key: LocalAccount | None = None,
    chain_id: int = 84532,
    lives: int = 90,
    **changed: Any,
) -> tuple[Permit2Authorization, Payment]:
    """What a stock client sends for the entry, unless told otherwise."""
    signed = Permit2Authorization(
        payer=address_of(payer),
        pay_to=bytes.fromhex(entry["payTo"][2:]),
        value=int(entry["amount"]),
        valid_after=0,
        valid_before=int(time.time()) + lives,
        nonce=Account.create().key,
        token=bytes.fromhex(entry["asset"][2:]),
        spender=EXACT_PROXY,
    )
    signed = replace(signed, nonce=bytes(signed.nonce), **changed)
    signature = sign_permit(chain_id, bytes((key or payer).key), signed)
    return signed, header_of(entry, signed, signature)


def header_of(
    entry: dict[str, Any], signed: Permit2Authorization, signature: bytes
) -> Payment:
    shown = {
        "from": checksum_address(signed.payer),
        "permitted": {
            "token": checksum_address(signed.token),
            "amount": str(signed.value),
        },
        "spender": checksum_address(signed.spender),
        "nonce": str(int.from_bytes(signed.nonce, "big")),
        "deadline": str(signed.valid_before),
        "witness": {
            "to": checksum_address(signed.pay_to),
            "validAfter": str(signed.valid_after),
        },
    }
    payload = {"permit2Authorization": shown, "signature": f"0x{signature.hex()}"}
    return Payment({"x402Version": 2, "accepted": entry, "payload": payload})
