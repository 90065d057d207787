import pytest
from pydantic import ValidationError

from tallystick.catalog.load import parse_catalog
from tallystick.catalog.models import TABLES, Feature, Table

TEXT = """\
[catalog]
slug = "shop"
name = "Shop"
[credit]
price_usd = 0.10
[[feature]]
slug = "audit"
name = "Audit"
price = 0.5
[feature.parameters]
owner = { type = "string", required = false }
tokens = { type = "list" }
[[pack]]
id = "small"
price_usd = 5
"""
SAME = [
    ("price = 0.5", "price = 0.5 # half a credit"),
    ("price = 0.5", "\n\n  price   =   0.5"),
    ("price = 0.5", 'price = "0.50"'),
    ("price_usd = 5", "price_usd = 5.000"),
    ('slug = "audit"\nname = "Audit"', 'name = "Audit"\nslug = "audit"'),
    ('type = "string", required = false', 'required = false, type = "string"'),
    ("price = 0.5", 'price = 0.5\nmethods = ["GET", "POST"]\nminimum_quantity = 1'),
    ("[credit]", "[topup]\nauto_topup_usd = 1.0\n[credit]"),
    ('tokens = { type = "list" }', 'tokens.type = "list"'),
    ("price_usd = 5", "price_usd = 5\nbonus = 0"),
]
OTHER = [
    ("price = 0.5", "price = 0.500001"),
    ("price_usd = 0.10", "price_usd = 0.11"),
    ("price_usd = 5", "price_usd = 5\nbonus = 1"),
    ('name = "Audit"', 'name = "The audit"'),
    ("required = false", "required = true"),
    ("[credit]", "[topup]\nauto_topup_usd = 2\n[credit]"),
    ('id = "small"', 'id = "large"'),
]


def test_a_version_is_short_and_hexadecimal() -> None:
    version = parse_catalog(TEXT).version
    assert len(version) == 12
    assert set(version) <= set("0123456789abcdef")


def test_a_version_outlives_releases() -> None:
    # Quotes and charges name it: a release that changes this value orphans them.
    assert parse_catalog(TEXT).version == "87b61ddf1bec"


@pytest.mark.parametrize(("old", "new"), SAME)
def test_a_version_does_not_change_with_the_way_of_writing(old: str, new: str) -> None:
    assert old in TEXT
    assert parse_catalog(TEXT.replace(old, new)).version == parse_catalog(TEXT).version


@pytest.mark.parametrize(("old", "new"), OTHER)
def test_a_version_changes_with_the_content(old: str, new: str) -> None:
    assert old in TEXT
    assert parse_catalog(TEXT.replace(old, new)).version != parse_catalog(TEXT).version


def test_a_catalog_cannot_be_changed_after_it_was_checked() -> None:
    catalog = parse_catalog(TEXT)
    with pytest.raises(ValidationError, match="frozen"):
        catalog.features[0].price = 0
    with pytest.raises(ValidationError, match="frozen"):
        catalog.credit = None


def test_a_float_never_becomes_a_price() -> None:
    with pytest.raises(ValidationError, match="this is no number"):
        Feature(slug="audit", name="Audit", price=0.5)


def test_every_table_of_the_language_has_its_place() -> None:
    assert set(TABLES.values()) == set(Table.__subclasses__())
