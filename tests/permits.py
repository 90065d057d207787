"""A payer by Permit2, and what others do with what he has signed."""

import secrets
from dataclasses import dataclass, replace
from typing import Any

from eth_abi.abi import encode
from eth_account import Account
from eth_account.messages import encode_typed_data

from tallystick.chain import abi
from tallystick.chain.deployment import MULTICALL3
from tallystick.chain.local import LocalChain, artifact
from tallystick.chain.permit2 import EXACT_PROXY, PERMIT2, permit_call
from tallystick.x402.permit2 import Permit2Authorization
from tests.house import DOLLAR, Wallet
from tests.strangers import STRANGER

Signed = tuple[Permit2Authorization, bytes]
INVALIDATE = abi.selector("invalidateUnorderedNonces(uint256,uint256)")
TYPES = {
    "PermitWitnessTransferFrom": [
        {"name": "permitted", "type": "TokenPermissions"},
        {"name": "spender", "type": "address"},
        {"name": "nonce", "type": "uint256"},
        {"name": "deadline", "type": "uint256"},
        {"name": "witness", "type": "Witness"},
    ],
    "TokenPermissions": [
        {"name": "token", "type": "address"},
        {"name": "amount", "type": "uint256"},
    ],
    "Witness": [
        {"name": "to", "type": "address"},
        {"name": "validAfter", "type": "uint256"},
    ],
}


def _hex(address: bytes) -> str:
    return f"0x{address.hex()}"


def sign_permit(chain_id: int, key: bytes, signed: Permit2Authorization) -> bytes:
    """As a wallet does, by the general encoder of EIP-712."""
    domain = {
        "name": "Permit2",
        "chainId": chain_id,
        "verifyingContract": _hex(PERMIT2),
    }
    message: dict[str, Any] = {
        "permitted": {"token": _hex(signed.token), "amount": signed.value},
        "spender": _hex(signed.spender),
        "nonce": int.from_bytes(signed.nonce, "big"),
        "deadline": signed.valid_before,
        "witness": {"to": _hex(signed.pay_to), "validAfter": signed.valid_after},
    }
    signable = encode_typed_data(domain, TYPES, message)
    return bytes(Account.sign_message(signable, key).signature)


@dataclass
class PermitWallet(Wallet):
    """A wallet that pays by Permit2."""

    async def approve(self, usdc: int = 2**255) -> None:
        """Let Permit2 move so much; 0 takes it back."""
        await self.local.send(self.address, self.local.token, approval(usdc))

    async def permit(
        self,
        pay_to: bytes,
        usdc: int = DOLLAR,
        *,
        seconds: int = 90,
        nonce: int | None = None,
        chain_id: int | None = None,
        **changed: Any,
    ) -> Signed:
        """A permit that is valid for so many seconds of the chain's time."""
        head = await self.local.chain.block("latest")
        assert head is not None
        number = secrets.randbits(256) if nonce is None else nonce
        signed = Permit2Authorization(
            payer=self.address,
            pay_to=pay_to,
            value=usdc,
            valid_after=0,
            valid_before=head.timestamp_seconds + seconds,
            nonce=number.to_bytes(32, "big"),
            token=self.local.token,
            spender=EXACT_PROXY,
        )
        signed = replace(signed, **changed)
        return signed, sign_permit(chain_id or self.local.chain_id, self.key, signed)

    async def invalidate(self, nonce: bytes) -> None:
        """Withdraw what was signed with the nonce."""
        await self.local.send(self.address, PERMIT2, invalidation(nonce))


def only_permit2(_: int, offered: list[Any]) -> list[Any]:
    """What the owner of a stock client registers who wants to pay by Permit2 alone."""
    return [one for one in offered if one.extra.get("assetTransferMethod") == "permit2"]


def approval(usdc: int) -> bytes:
    """Calldata of the token's ``approve`` for Permit2."""
    call = abi.selector("approve(address,uint256)")
    return call + abi.word(PERMIT2) + abi.word(usdc)


def invalidation(nonce: bytes) -> bytes:
    """Calldata of Permit2's ``invalidateUnorderedNonces`` for one nonce."""
    word, bit = int.from_bytes(nonce, "big") >> 8, nonce[-1]
    return INVALIDATE + abi.word(word) + abi.word(1 << bit)


async def submit_permit(local: LocalChain, signed: Signed) -> bytes:
    """Somebody else settles it by the proxy; the transaction's hash."""
    call = permit_call(*signed, signed[0].token)
    receipt = await local.send(STRANGER, EXACT_PROXY, call)
    assert receipt.succeeded
    return receipt.tx_hash


async def submit_together(
    local: LocalChain, *calls: tuple[bytes, bytes], tail: bytes = b""
) -> bytes:
    """Somebody makes these calls by way of another contract, in one transaction."""
    await local.plant(MULTICALL3, artifact("Multicall"))
    listed = [(to, False, call) for to, call in calls]
    together = abi.AGGREGATE3 + encode(("(address,bool,bytes)[]",), (listed,))
    receipt = await local.send(STRANGER, MULTICALL3, together + tail)
    assert receipt.succeeded
    return receipt.tx_hash


def by_proxy(signed: Signed) -> tuple[bytes, bytes]:
    """The call of the proxy that settles it."""
    return EXACT_PROXY, permit_call(*signed, signed[0].token)
