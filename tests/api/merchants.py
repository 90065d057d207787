"""Another seller over HTTP, for whose payments a server of ours is the facilitator."""

import secrets
from dataclasses import dataclass
from typing import Any

from x402.http import FacilitatorConfig, HTTPFacilitatorClient
from x402.http.facilitator_client_base import AuthHeaders

from tallystick.chain.local import LocalChain
from tallystick.chain.token import balance_of
from tallystick.payments.merchants.registry import add_merchant
from tallystick.x402.keccak import checksum_address
from tests.live import LiveServer

NETWORK = "eip155:84532"
CENT = 10_000


@dataclass
class Merchant:
    """Another seller with its address, key and stock facilitator client."""

    server: LiveServer
    chain: LocalChain
    id: int
    pay_to: bytes
    key: str

    def entry(self, version: int = 2, **more: Any) -> dict[str, Any]:
        """What it asks its buyers for."""
        names = {"name": "USDC", "version": "2"}
        entry = {
            "scheme": "exact",
            "network": NETWORK,
            "asset": checksum_address(self.chain.token),
            "amount": str(CENT),
            "payTo": checksum_address(self.pay_to),
            "maxTimeoutSeconds": 300,
            "extra": names,
        }
        if version == 1:
            entry |= {
                "network": "base-sepolia",
                "maxAmountRequired": entry.pop("amount"),
                "resource": "http://shop.test/",
                "description": "",
                "mimeType": "application/json",
            }
        return entry | more

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def stock(self) -> HTTPFacilitatorClient:
        config = FacilitatorConfig(url=f"{self.server.url}/x402", auth_provider=self)
        return HTTPFacilitatorClient(config)

    def get_auth_headers(self) -> AuthHeaders:
        every = self.headers()
        return AuthHeaders(verify=every, settle=every, supported=every)

    async def income(self) -> int:
        return await balance_of(self.chain.chain, self.pay_to)


async def joined(server: LiveServer, chain: LocalChain) -> Merchant:
    pay_to, gate = secrets.token_bytes(20), server.gate
    made = await gate.db.write(
        lambda session: add_merchant(session, gate.seal, name="shop", payees=[pay_to])
    )
    return Merchant(server, chain, made.id, pay_to, made.secret)
