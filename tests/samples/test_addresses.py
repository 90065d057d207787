"""What the samples take is what the catalog's type ``address`` lets through."""

import pytest

from tallystick.api.arguments import read_arguments
from tallystick.api.errors import InvalidRequest
from tallystick.catalog.load import load_catalog
from tallystick.samples.context import InvalidFeatureArgument, parse_address
from tests.samples.addresses import ADDRESSES, NO_ADDRESSES

ANALYST = load_catalog("x402_credits").feature("ai_analyst")


@pytest.mark.parametrize("text", ADDRESSES)
def test_an_address_is_taken_by_both(text: str) -> None:
    assert read_arguments(ANALYST, {"address": text}) == {"address": text}
    assert parse_address("address", text).hex() == text[2:].lower()


@pytest.mark.parametrize("text", NO_ADDRESSES)
def test_what_is_no_address_is_refused_by_both(text: str) -> None:
    with pytest.raises(InvalidRequest):
        read_arguments(ANALYST, {"address": text})
    with pytest.raises(InvalidFeatureArgument):
        parse_address("address", text)
