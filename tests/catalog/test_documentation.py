import re
from pathlib import Path

import pytest

from tallystick.catalog import pricing
from tallystick.catalog.complaints import keys_of
from tallystick.catalog.errors import InvalidCatalog
from tallystick.catalog.load import parse_catalog
from tallystick.catalog.models import TABLES

PAGE = (Path(__file__).parents[2] / "docs" / "catalog.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
HEADINGS = {
    ("catalog",): "`[catalog]`",
    ("credit",): "`[credit]`",
    ("topup",): "`[topup]`",
    ("feature",): "`[[feature]]`",
    ("feature", "parameters", "*"): "`[feature.parameters]`",
    ("pack",): "`[[pack]]`",
}


def section(heading: str) -> str:
    return PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def test_every_table_has_a_section() -> None:
    assert {()} | HEADINGS.keys() == TABLES.keys()


@pytest.mark.parametrize(("place", "heading"), HEADINGS.items())
def test_every_key_and_no_other_is_documented_with_its_default(
    place: tuple[str, ...], heading: str
) -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", section(heading), re.MULTILINE)
    table = TABLES[place]
    assert [key for key, _ in rows if key != "parameters"] == [
        key for key in keys_of(table) if key != "parameters"
    ]
    for key, default in rows:
        field = table.model_fields[key]
        if field.is_required():
            assert default == "required", key
        elif field.default is None:
            assert default == "none", key
        else:
            written = str(field.default).lower().replace("'", '"').strip("()")
            assert default.lower().strip('`"[]') == written.strip('"'), key


@pytest.mark.parametrize(("place", "heading"), HEADINGS.items())
def test_every_key_has_an_example(place: tuple[str, ...], heading: str) -> None:
    example = "".join(re.findall(r"```toml\n(.*?)```", section(heading), re.DOTALL))
    for key in keys_of(TABLES[place]):
        if key != "parameters":
            assert re.search(rf"\b{key} = ", example), key


def test_the_examples_are_one_valid_catalog_that_saves_what_the_page_says() -> None:
    catalog = parse_catalog("\n".join(EXAMPLES))
    large = catalog.pack("large")
    assert pricing.pack_credits(catalog, large) == 225_000_000
    assert pricing.savings(catalog, large) == 2_500_000


def test_the_rounding_is_as_the_page_says() -> None:
    text = "\n".join(EXAMPLES).replace('price_usd = "0.10"', 'price_usd = "0.03"')
    assert pricing.credits_for_usdc(parse_catalog(text), 1_000_000) == 33_333_333


def test_problems_look_as_the_page_says() -> None:
    text = "\n".join(EXAMPLES).replace("pictures = {", "images = {")
    text = text.replace("price_usd = 5\n", "price_usd = 0.01\n")
    with pytest.raises(InvalidCatalog) as refused:
        parse_catalog(text, "shop.toml")
    told = [re.sub(r":\d+:", ":", str(one)) for one in refused.value.problems]
    shown = [
        re.sub(r":\d+:", ":", line.strip())
        for line in section("Problems").splitlines()
        if line.startswith("    shop.toml")
    ]
    assert told == shown
