"""Accounts are found by their codes for ever, so the codes stay as they are."""

from collections.abc import Callable

import pytest

from tallystick.kernel.ids import encode_id
from tallystick.kernel.money import CREDIT, USDC, Asset
from tallystick.ledger import chart
from tallystick.ledger.chart import AccountName

TOKEN = bytes(18) + b"\xab\xcd"
HEX = "0x" + "00" * 18 + "abcd"


@pytest.mark.parametrize(
    ("account", "code", "asset"),
    [
        (chart.chain_assets, f"assets:chain:eip155:1:{HEX}", USDC),
        (chart.treasury, f"assets:treasury:eip155:1:{HEX}", USDC),
        (chart.suspense, f"liabilities:suspense:eip155:1:{HEX}", USDC),
    ],
)
def test_money_is_kept_by_network_and_token(
    account: Callable[[str, bytes], AccountName], code: str, asset: Asset
) -> None:
    assert account("eip155:1", TOKEN) == AccountName(code, asset)


def test_credits_are_kept_by_customer_feature_and_reason() -> None:
    code = f"liabilities:customer:{encode_id('cus', 7)}:credits"
    assert chart.customer_credits(7) == AccountName(code, CREDIT, 7)
    found = (
        chart.feature_revenue("echo"),
        chart.breakage(),
        chart.promotions(),
        chart.bad_debts(),
        chart.paybacks(),
        chart.receivable(7),
    )
    assert [(one.code, one.asset, one.customer_id) for one in found] == [
        ("revenue:feature:echo", CREDIT, None),
        ("revenue:breakage", CREDIT, None),
        ("expense:promotions", CREDIT, None),
        ("expense:bad_debts", CREDIT, None),
        ("liabilities:paybacks", CREDIT, None),
        (f"receivable:customer:{encode_id('cus', 7)}", CREDIT, None),
    ]


@pytest.mark.parametrize("asset", [CREDIT, USDC])
def test_assets_are_exchanged_over_an_account_of_each(asset: Asset) -> None:
    code = f"equity:exchange:{asset.code}"
    assert chart.exchange(asset) == AccountName(code, asset)
