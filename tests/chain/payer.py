"""A payer's side of a payment, for the tests: sign, settle, cancel."""

import asyncio
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from eth_account import Account
from eth_account.messages import encode_typed_data

from tallystick.chain import abi, relay
from tallystick.chain.evidence import Settled, find_settlements
from tallystick.chain.local import ADDRESSES, KEYS, LocalChain
from tallystick.chain.logs import Receipt, receipt
from tallystick.chain.rpc import Chain
from tallystick.kernel.money import UsdcAtomic

RELAYER_KEY = KEYS[0]
DOLLAR = UsdcAtomic(1_000_000)
PAY_TO = bytes.fromhex("70" * 20)
STRANGER = ADDRESSES[5]
_FIELDS = {
    "TransferWithAuthorization": [
        {"name": "from", "type": "address"},
        {"name": "to", "type": "address"},
        {"name": "value", "type": "uint256"},
        {"name": "validAfter", "type": "uint256"},
        {"name": "validBefore", "type": "uint256"},
        {"name": "nonce", "type": "bytes32"},
    ],
    "CancelAuthorization": [
        {"name": "authorizer", "type": "address"},
        {"name": "nonce", "type": "bytes32"},
    ],
}


def address_of(key: bytes) -> bytes:
    return bytes.fromhex(Account.from_key(key).address[2:])


RELAYER = address_of(RELAYER_KEY)


@dataclass(frozen=True)
class Authorization:
    payer: bytes
    pay_to: bytes = PAY_TO
    value: int = DOLLAR
    valid_after: int = 0
    valid_before: int = 2**40
    nonce: bytes = field(default_factory=lambda: secrets.token_bytes(32))


def _sign(
    local: LocalChain, key: bytes, kind: str, message: Mapping[str, object]
) -> bytes:
    domain = {
        "name": local.title,
        "version": "2",
        "chainId": local.chain_id,
        "verifyingContract": "0x" + local.token.hex(),
    }
    signable = encode_typed_data(domain, {kind: _FIELDS[kind]}, dict(message))
    return bytes(Account.sign_message(signable, key).signature)


def sign(local: LocalChain, key: bytes, authorization: Authorization) -> bytes:
    """The payer's signature, 65 bytes r, s, v."""
    message = {
        "from": "0x" + authorization.payer.hex(),
        "to": "0x" + authorization.pay_to.hex(),
        "value": authorization.value,
        "validAfter": authorization.valid_after,
        "validBefore": authorization.valid_before,
        "nonce": authorization.nonce,
    }
    return _sign(local, key, "TransferWithAuthorization", message)


def cancel_call(local: LocalChain, key: bytes, nonce: bytes) -> bytes:
    """Calldata of cancelAuthorization, signed."""
    payer = address_of(key)
    message: dict[str, object] = {"authorizer": "0x" + payer.hex(), "nonce": nonce}
    signature = _sign(local, key, "CancelAuthorization", message)
    called = abi.selector("cancelAuthorization(address,bytes32,uint8,bytes32,bytes32)")
    words = (payer, nonce, signature[64], signature[:32], signature[32:64])
    return called + b"".join(abi.word(item) for item in words)


def transfer_call(to: bytes, value: int) -> bytes:
    return abi.selector("transfer(address,uint256)") + abi.word(to) + abi.word(value)


@dataclass
class Payer:
    """A wallet with a key, on one local chain."""

    local: LocalChain
    key: bytes

    @property
    def address(self) -> bytes:
        return address_of(self.key)

    def authorize(
        self,
        value: int = DOLLAR,
        *,
        on_behalf_of: bytes | None = None,
        valid_after: int = 0,
        valid_before: int | None = None,
    ) -> tuple[Authorization, bytes]:
        """An authorization, of a wallet that we own if not our own, and a signature."""
        authorization = Authorization(
            on_behalf_of or self.address,
            value=value,
            valid_after=valid_after,
            valid_before=valid_before or int(time.time()) + 3600,
        )
        return authorization, sign(self.local, self.key, authorization)

    async def relayed(
        self, chain: Chain, authorization: Authorization, signature: bytes
    ) -> relay.SignedTransaction:
        """What the relayer signs for it: the production path, verb by verb."""
        gas = await relay.estimate_gas(chain, authorization, signature, RELAYER)
        return relay.sign_transaction(
            chain,
            RELAYER_KEY,
            await chain.nonce(RELAYER, "pending"),
            relay.settlement_call(authorization, signature),
            gas=gas,
            fees=await relay.fees(chain),
        )

    async def settle(
        self, chain: Chain, authorization: Authorization, signature: bytes
    ) -> Settled:
        """The whole path; the one settlement that it leads to."""
        signed = await self.relayed(chain, authorization, signature)
        await relay.broadcast(chain, signed.raw)
        await mined(chain, signed.hash)
        payer, nonce = authorization.payer, authorization.nonce
        (settled,) = await find_settlements(chain, payer, nonce, 0)
        return settled


async def mined(chain: Chain, tx_hash: bytes) -> Receipt:
    """The receipt of a transaction that automine is about to mine."""
    for _ in range(500):
        found = await receipt(chain, tx_hash)
        if found:
            return found
        await asyncio.sleep(0.005)
    raise AssertionError("not mined")
