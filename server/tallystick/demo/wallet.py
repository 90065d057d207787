"""A wallet in our own hand, for what a stock client would never do.

It signs with eth-account, so that the server's own reading of the standards is not
what makes its signatures.
"""

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount

from tallystick.x402.headers import encode_header
from tallystick.x402.keccak import checksum_address
from tallystick.x402.siwe_message import SignInMessage
from tallystick.x402.siwx import SIGN_IN_WITH_X
from tallystick.x402.wire import Authorization

# EIP-3009
_FIELDS = {
    "from": "address",
    "to": "address",
    "value": "uint256",
    "validAfter": "uint256",
    "validBefore": "uint256",
    "nonce": "bytes32",
}
_TYPES = {
    "TransferWithAuthorization": [
        {"name": name, "type": kind} for name, kind in _FIELDS.items()
    ]
}


@dataclass(frozen=True)
class Wallet:
    """A private key and its address."""

    signer: LocalAccount

    @classmethod
    def new(cls) -> Self:
        """A wallet that nobody has seen before."""
        return cls(Account.create())

    @property
    def shown(self) -> str:
        """The address as people read it."""
        return str(self.signer.address)

    @property
    def address(self) -> bytes:
        return bytes.fromhex(self.shown[2:])

    @property
    def private_key(self) -> str:
        return f"0x{bytes(self.signer.key).hex()}"

    def pay(self, offer: Mapping[str, Any], payer: bytes | None = None) -> str:
        """A payment header for an entry of ``accepts``, signed by this wallet.

        ``payer`` is whose money it says it is; this wallet's own unless given.
        """
        now = int(time.time())
        signed = Authorization(
            payer=payer or self.address,
            pay_to=bytes.fromhex(offer["payTo"][2:]),
            value=int(offer["amount"]),
            valid_after=0,
            valid_before=now + int(offer["maxTimeoutSeconds"]),
            nonce=secrets.token_bytes(32),
        )
        return payment_header(offer, signed, self._sign(offer, signed))

    def sign_in(self, offer: Mapping[str, Any]) -> dict[str, str]:
        """The header that proves this wallet, for the sign-in in ``extensions``."""
        declared = offer[SIGN_IN_WITH_X]
        info, chosen = declared["info"], declared["supportedChains"][0]
        message = SignInMessage(
            domain=info["domain"],
            uri=info["uri"],
            statement=info.get("statement"),
            chain_id=int(chosen["chainId"].partition(":")[2]),
            nonce=info["nonce"],
            issued_at=info["issuedAt"],
            expiration_time=info["expirationTime"],
        )
        text = encode_defunct(text=message.text(self.shown))
        signature = self.signer.sign_message(text).signature
        proof = {"address": self.shown, "signature": f"0x{bytes(signature).hex()}"}
        return {SIGN_IN_WITH_X: encode_header({**info, **chosen, **proof})}

    def _sign(self, offer: Mapping[str, Any], signed: Authorization) -> bytes:
        domain = {
            "name": offer["extra"]["name"],
            "version": offer["extra"]["version"],
            "chainId": int(offer["network"].partition(":")[2]),
            "verifyingContract": offer["asset"],
        }
        values = _members(signed)
        values["nonce"] = signed.nonce
        found = Account.sign_typed_data(self.signer.key, domain, _TYPES, values)
        return bytes(found.signature)


def payment_header(
    offer: Mapping[str, Any], signed: Authorization, signature: bytes
) -> str:
    """PAYMENT-SIGNATURE of version 2, whoever signed."""
    members = {name: str(value) for name, value in _members(signed).items()}
    return encode_header(
        {
            "x402Version": 2,
            "accepted": dict(offer),
            "payload": {
                "authorization": members,
                "signature": f"0x{signature.hex()}",
            },
        }
    )


def _members(signed: Authorization) -> dict[str, Any]:
    values = (
        checksum_address(signed.payer),
        checksum_address(signed.pay_to),
        signed.value,
        signed.valid_after,
        signed.valid_before,
        f"0x{signed.nonce.hex()}",
    )
    return dict(zip(_FIELDS, values, strict=True))
