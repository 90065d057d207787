"""The networks that we know by name, with their USDC."""

from dataclasses import dataclass
from typing import Final

from tallystick.x402.wire import TokenDomain


@dataclass(frozen=True, slots=True)
class KnownNetwork:
    """A chain, its name in version 1 of the protocol, and Circle's USDC on it."""

    v1_name: str
    usdc: TokenDomain
    explorer_url: str

    @property
    def caip2(self) -> str:
        """The name in version 2, such as ``eip155:8453``."""
        return self.usdc.network

    @property
    def chain_id(self) -> int:
        return self.usdc.chain_id

    def tx_url(self, tx_hash: bytes) -> str:
        """Where people look at a transaction."""
        return f"{self.explorer_url}/tx/0x{tx_hash.hex()}"


BASE: Final = KnownNetwork(
    v1_name="base",
    usdc=TokenDomain(
        chain_id=8453,
        contract=bytes.fromhex("833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"),
        name="USD Coin",
        version="2",
    ),
    explorer_url="https://basescan.org",
)
BASE_SEPOLIA: Final = KnownNetwork(
    v1_name="base-sepolia",
    usdc=TokenDomain(
        chain_id=84532,
        contract=bytes.fromhex("036CbD53842c5426634e7929541eC2318f3dCF7e"),
        name="USDC",
        version="2",
    ),
    explorer_url="https://sepolia.basescan.org",
)

NETWORKS: Final = {network.caip2: network for network in (BASE, BASE_SEPOLIA)}
"""By CAIP-2 name."""

NETWORKS_BY_V1_NAME: Final = {network.v1_name: network for network in NETWORKS.values()}
