from typing import Any

import pytest
from eth_account.messages import _hash_eip191_message, encode_typed_data
from hypothesis import given, settings
from hypothesis import strategies as st

from tallystick.x402.eip712 import PrimaryType, authorization_digest
from tallystick.x402.networks import BASE, BASE_SEPOLIA, KnownNetwork
from tallystick.x402.wire import Authorization, TokenDomain

UINT256 = st.integers(0, 2**256 - 1)
ADDRESS = st.binary(min_size=20, max_size=20)
FIELDS = [
    {"name": "from", "type": "address"},
    {"name": "to", "type": "address"},
    {"name": "value", "type": "uint256"},
    {"name": "validAfter", "type": "uint256"},
    {"name": "validBefore", "type": "uint256"},
    {"name": "nonce", "type": "bytes32"},
]
AUTHORIZATIONS = st.builds(
    Authorization,
    payer=ADDRESS,
    pay_to=ADDRESS,
    value=UINT256,
    valid_after=UINT256,
    valid_before=UINT256,
    nonce=st.binary(min_size=32, max_size=32),
)
DOMAINS = st.builds(
    TokenDomain,
    chain_id=UINT256,
    contract=ADDRESS,
    name=st.text(st.characters(codec="utf-8"), max_size=40),
    version=st.text(st.characters(codec="utf-8"), max_size=8),
)


@pytest.mark.parametrize(
    ("network", "separator"),
    [
        (BASE, "02fa7265e7c5d81118673727957699e4d68f74cd74b7db77da710fe8a2c7834f"),
        (
            BASE_SEPOLIA,
            "71f17a3b2ff373b803d70a5a07c046c1a2bc8e89c09ef722fcb047abe94c9818",
        ),
    ],
)
def test_the_domain_is_the_one_of_the_real_usdc(
    network: KnownNetwork, separator: str
) -> None:
    assert network.usdc.separator().hex() == separator


@settings(deadline=None)
@given(
    DOMAINS,
    AUTHORIZATIONS,
    st.sampled_from(["TransferWithAuthorization", "ReceiveWithAuthorization"]),
)
def test_every_digest_equals_eth_accounts(
    domain: TokenDomain, signed: Authorization, primary_type: PrimaryType
) -> None:
    ours = authorization_digest(domain, signed, primary_type)
    assert ours == _digest_of_eth_account(domain, signed, primary_type)


def _digest_of_eth_account(
    domain: TokenDomain, signed: Authorization, primary_type: str
) -> bytes:
    message: dict[str, Any] = {
        "from": signed.payer,
        "to": signed.pay_to,
        "value": signed.value,
        "validAfter": signed.valid_after,
        "validBefore": signed.valid_before,
        "nonce": signed.nonce,
    }
    return _hash_eip191_message(
        encode_typed_data(
            {
                "name": domain.name,
                "version": domain.version,
                "chainId": domain.chain_id,
                "verifyingContract": domain.contract,
            },
            {primary_type: FIELDS},
            message,
        )
    )
