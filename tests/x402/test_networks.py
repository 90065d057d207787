import pytest
from x402.mechanisms.evm.default_assets import DEFAULT_ASSETS
from x402.mechanisms.evm.v1.constants import V1_NETWORK_CHAIN_IDS, V1_NETWORKS

from tallystick.kernel.money import USDC_SCALE
from tallystick.x402.keccak import checksum_address
from tallystick.x402.networks import NETWORKS, NETWORKS_BY_V1_NAME, KnownNetwork

KNOWN = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)


@KNOWN
def test_usdc_is_the_asset_that_stock_clients_expect(network: KnownNetwork) -> None:
    asset = DEFAULT_ASSETS[network.caip2][0]
    assert asset["asset"] == checksum_address(network.usdc.contract)
    assert asset["name"] == network.usdc.name
    assert asset["version"] == network.usdc.version
    assert asset["decimals"] == USDC_SCALE


@KNOWN
def test_names_of_version_1_mean_the_same_chain(network: KnownNetwork) -> None:
    assert network.v1_name in V1_NETWORKS
    assert V1_NETWORK_CHAIN_IDS[network.v1_name] == network.chain_id
    assert NETWORKS_BY_V1_NAME[network.v1_name] is network


def test_a_transaction_has_a_page_on_the_explorer() -> None:
    url = NETWORKS["eip155:84532"].tx_url(b"\xab" * 32)
    assert url == "https://sepolia.basescan.org/tx/0x" + "ab" * 32
