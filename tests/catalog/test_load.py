import tomllib
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from tallystick.catalog.errors import InvalidCatalog
from tallystick.catalog.load import built_in_catalogs, load_catalog, parse_catalog
from tallystick.catalog.models import Catalog

Shop = Callable[..., Catalog]
GOOD = """\
[catalog]
slug = "shop"
name = "Shop"
[credit]
price_usd = 0.10
[topup]
minimum_usd = 1
[[feature]]
slug = "audit"
name = "Audit"
price = 0.5
unit = "token"
quantity_from = "tokens"
[feature.parameters]
tokens = { type = "list" }
[[feature]]
slug = "check"
name = "Check"
price = 0
[[pack]]
id = "small"
price_usd = 5
[[pack]]
id = "large"
price_usd = 20
"""


def problems_of(text: str) -> list[str]:
    with pytest.raises(InvalidCatalog) as refused:
        parse_catalog(text, "shop.toml")
    return [str(problem) for problem in refused.value.problems]


BAD = tomllib.loads(
    (Path(__file__).parent / "bad_catalogs.toml").read_text(encoding="utf-8")
)["bad"]


def test_the_catalog_that_the_bad_ones_are_made_of_is_good() -> None:
    catalog = parse_catalog(GOOD)
    assert [feature.slug for feature in catalog.features] == ["audit", "check"]


@pytest.mark.parametrize("bad", BAD, ids=[bad["name"] for bad in BAD])
def test_a_bad_catalog_is_told_its_line_reason_and_remedy(bad: dict[str, str]) -> None:
    assert bad["old"] in GOOD
    assert problems_of(GOOD.replace(bad["old"], bad["new"], 1)) == [bad["told"]]


def test_an_immense_number_is_refused_like_any_other() -> None:
    # Hexadecimal digits escape Python's own limit on the digits of an integer.
    text = GOOD.replace("price = 0.5", "price = 0x" + "f" * 5000)
    assert [problem[:58] for problem in problems_of(text)] == [
        "shop.toml:11: feature.audit.price: the number is too large"
    ]
    text = GOOD.replace("price = 0.5", "price = " + "9" * 5000)
    assert [problem[:35] for problem in problems_of(text)] == [
        "shop.toml: Exceeds the limit (4300 "
    ]


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        (
            {"price_usd": "0.000001", "maximum_usd": "100000000"},
            ["credits than any amount can be"],
        ),
        (
            {"price_usd": "1000000000", "minimum_usd": "0.000001"},
            ["less than a millionth of one credit", "pays for its smallest call"],
        ),
        (
            {"price_usd": "1000000", "minimum_usd": 1, "maximum_quantity": "1e7"},
            ["beyond any amount", "pays for its smallest call"],
        ),
    ],
)
def test_amounts_that_are_too_large_or_nothing_are_refused(
    shop: Shop, numbers: dict[str, object], told: list[str]
) -> None:
    with pytest.raises(InvalidCatalog) as refused:
        shop(**numbers)
    reasons = [problem.reason for problem in refused.value.problems]
    assert len(reasons) == len(told)
    for part in told:
        assert any(part in reason for reason in reasons)


def test_the_bounds_of_a_quantity_may_meet() -> None:
    fixed = "price = 0.5\nminimum_quantity = 3\nmaximum_quantity = 3"
    assert parse_catalog(GOOD.replace("price = 0.5", fixed))
    single = 'price = 0\nmaximum_quantity = 1\nhandler = "shop:check"\n'
    assert parse_catalog(GOOD.replace("price = 0\n", single))


def test_all_problems_are_told_at_once_in_the_order_of_the_file() -> None:
    text = GOOD.replace('name = "Shop"\n', "").replace("price = 0.5", "price = -1")
    text = text.replace('slug = "check"', 'slug = "audit"')
    text = text.replace("price_usd = 20", "price_usd = 0.01")
    places = [problem.split(": ")[:2] for problem in problems_of(text)]
    assert places == [
        ["shop.toml:1", "catalog.name"],
        ["shop.toml:10", "feature.audit.price"],
        ["shop.toml:16", "feature.audit.slug"],
        ["shop.toml:24", "pack.large.price_usd"],
    ]


@pytest.mark.parametrize(
    "text",
    ["", "feature = 1\npack = 2", "feature = [1]\npack = [[]]", "catalog = []"],
)
def test_a_text_that_is_nothing_like_a_catalog_is_refused_with_problems(
    text: str,
) -> None:
    assert problems_of(text)


def test_a_refusal_is_bad_input_with_its_problems_as_members() -> None:
    with pytest.raises(InvalidCatalog) as refused:
        parse_catalog(GOOD.replace("price = 0.5", "price ="), "shop.toml")
    assert refused.value.status == 422
    assert refused.value.code == "invalid_catalog"
    assert refused.value.members["problems"] == [
        {
            "file": "shop.toml",
            "line": 11,
            "where": "",
            "reason": "Invalid value",
            "remedy": "Correct the TOML there.",
        }
    ]


@pytest.mark.parametrize("written", ["0.3", '"0.3"', '"0.300"', "3e-1", "0.30"])
def test_a_number_is_exact_however_it_is_written(written: str) -> None:
    catalog = parse_catalog(GOOD.replace("price = 0.5", f"price = {written}"))
    assert str(catalog.feature("audit").price) == "0.3"
    assert type(catalog.feature("audit").price) is Decimal


def test_a_file_is_loaded_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "shop.toml"
    path.write_text(GOOD, encoding="utf-8")
    assert load_catalog(path) == load_catalog(str(path)) == parse_catalog(GOOD)


def test_a_file_that_is_not_there_is_told_with_the_names_that_ship() -> None:
    told = r"nowhere.toml: it cannot be read: No such file .* names .*x402_credits"
    with pytest.raises(InvalidCatalog, match=told):
        load_catalog("nowhere.toml")


def test_a_name_that_does_not_ship_is_told_with_the_names_that_do() -> None:
    with pytest.raises(InvalidCatalog, match=r"no_such: it cannot be read.*x402_cred"):
        load_catalog("no_such")


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "shop.toml"
    path.write_bytes('name = "Café"'.encode("latin-1"))
    with pytest.raises(InvalidCatalog, match="it is not UTF-8"):
        load_catalog(path)


@pytest.mark.parametrize("name", built_in_catalogs())
def test_every_catalog_that_ships_loads_under_its_own_name(name: str) -> None:
    assert load_catalog(name).about.slug == name


def test_the_catalogs_are_in_sight_at_the_top_of_the_checkout() -> None:
    root = Path(__file__).parents[2]
    assert load_catalog(root / "catalogs" / "x402_credits.toml")
