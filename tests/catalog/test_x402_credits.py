"""The numbers of the catalog's own business, from its first document."""

import pytest

from tallystick.catalog import pricing
from tallystick.catalog.models import Catalog
from tallystick.catalog.quantity import quantity_of
from tallystick.kernel.money import parse_credits


def test_a_credit_costs_ten_cents(x402_credits: Catalog) -> None:
    assert pricing.credits_for_usdc(x402_credits, 100_000) == 1_000_000
    assert pricing.credits_for_usdc(x402_credits, 1) == 10


@pytest.mark.parametrize(
    ("slug", "quantity", "cost"),
    [
        ("honeypot_check", 1, 0),
        ("risk_score", 1, 0),
        ("ai_analyst", 1, 1),
        ("portfolio_audit", 1, "0.5"),
        ("portfolio_audit", 10, 5),
        ("portfolio_audit", 100, 50),
    ],
)
def test_features_cost_what_they_should(
    x402_credits: Catalog, slug: str, quantity: int, cost: str | int
) -> None:
    feature = x402_credits.feature(slug)
    assert pricing.price(feature, quantity) == parse_credits(cost)
    assert feature.handler == f"tallystick.samples.onchain:{slug}"


def test_packs_hold_what_their_price_buys_and_claim_no_savings(
    x402_credits: Catalog,
) -> None:
    packs = {
        pricing.pack_price(pack): pricing.pack_credits(x402_credits, pack)
        for pack in x402_credits.packs
    }
    dollar = credit = 1_000_000
    assert packs == {
        5 * dollar: 50 * credit,
        10 * dollar: 100 * credit,
        20 * dollar: 200 * credit,
        50 * dollar: 500 * credit,
    }
    assert not any(pricing.savings(x402_credits, pack) for pack in x402_credits.packs)


def test_an_empty_wallet_is_asked_for_a_dollar_and_for_more_only_at_need(
    x402_credits: Catalog,
) -> None:
    assert pricing.topup_for_shortfall(x402_credits, parse_credits(1)) == 1_000_000
    assert pricing.topup_for_shortfall(x402_credits, parse_credits(50)) == 5_000_000


@pytest.mark.parametrize("slug", ["ai_analyst", "portfolio_audit"])
def test_an_old_client_is_asked_for_no_more_than_ten_cents(
    x402_credits: Catalog, slug: str
) -> None:
    # x402-fetch 1 pays at most $0.10 at once.
    cost = pricing.price(x402_credits.feature(slug))
    assert pricing.smallest_topup(x402_credits, cost) <= 100_000
    assert pricing.smallest_topup(x402_credits, cost) == pricing.usdc_for_credits(
        x402_credits, cost
    )


def test_an_audit_counts_the_tokens_it_is_given(x402_credits: Catalog) -> None:
    audit = x402_credits.feature("portfolio_audit")
    assert quantity_of(audit, {"owner": "0x0", "tokens": ["0x1"] * 10}) == 10


def test_the_parameters_are_those_of_the_features(x402_credits: Catalog) -> None:
    assert {
        feature.slug: {name: told.type for name, told in feature.parameters.items()}
        for feature in x402_credits.features
    } == {
        "honeypot_check": {"token": "address"},
        "risk_score": {"token": "address"},
        "ai_analyst": {"address": "address"},
        "portfolio_audit": {"owner": "address", "tokens": "list"},
    }


def test_a_list_of_tokens_is_one_of_different_addresses(x402_credits: Catalog) -> None:
    tokens = x402_credits.feature("portfolio_audit").parameters["tokens"]
    assert (tokens.items, tokens.unique) == ("address", True)
