"""Payments are sent to one address, which the operator has set, and it must be safe."""

import pytest

from tallystick.x402.facilitator import is_facilitator_url


@pytest.mark.parametrize(
    "url",
    [
        "https://facilitator.example.com",
        "https://api.cdp.coinbase.com/platform/v2/x402",
        "https://facilitator.example.com:8443/x402/",
        "http://127.0.0.1:4021",
        "http://localhost:4021",
        "http://[::1]:4021",
    ],
)
def test_https_or_this_machine(url: str) -> None:
    assert is_facilitator_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "facilitator.example.com",
        "http://facilitator.example.com",
        "http://127.0.0.1.example.com",
        "http://127.0.0.1@facilitator.example.com",
        "https://user:password@facilitator.example.com",
        "https://facilitator.example.com/?to=elsewhere",
        "https://facilitator.example.com/#part",
        "https://facilitator.example.com:0",
        "https://facilitator.example.com:99999",
        "https://",
        "https://[::1",
        "ftp://127.0.0.1",
        "file:///etc/passwd",
    ],
)
def test_nothing_else(url: str) -> None:
    assert not is_facilitator_url(url)
