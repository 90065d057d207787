import json
import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tallystick.catalog.load import built_in_catalogs
from tallystick.catalog.schema import json_schema, json_schema_text

ROOT = Path(__file__).parents[2]
GOOD = {
    "catalog": {"slug": "shop", "name": "Shop"},
    "credit": {"price_usd": "0.10"},
    "feature": [{"slug": "audit", "name": "Audit", "price": 0}],
}


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json_schema())


def test_the_schema_that_ships_is_the_one_of_this_release() -> None:
    shipped = (ROOT / "docs" / "catalog.schema.json").read_text(encoding="utf-8")
    assert shipped == json_schema_text()


def test_the_schema_is_a_schema() -> None:
    schema = json.loads(json_schema_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == jsonschema.Draft202012Validator.META_SCHEMA["$id"]


@pytest.mark.parametrize("name", built_in_catalogs())
def test_every_catalog_that_ships_fits_the_schema(
    validator: jsonschema.Draft202012Validator, name: str
) -> None:
    text = (ROOT / "catalogs" / f"{name}.toml").read_text(encoding="utf-8")
    validator.validate(tomllib.loads(text, parse_float=Decimal))


@pytest.mark.parametrize(
    "changed",
    [
        {"credit": {}},
        {"credit": {"price_usd": 0}},
        {"credit": {"price_usd": "0.0000001"}},
        {"credit": {"price_usd": "ten"}},
        {"credit": {"price_usd": True}},
        {"credit": {"price_usd": 1, "prise": 1}},
        {"feature": []},
        {"feature": [{"slug": "A", "name": "A", "price": 0}]},
        {"feature": [{"slug": "a", "name": "A", "price": -1}]},
        {"feature": [{"slug": "a", "name": "A", "price": 1, "methods": ["HEAD"]}]},
        {"feature": [{"slug": "a", "name": "A", "price": 1, "unit": None}]},
        {"plans": {}},
    ],
)
def test_an_editor_marks_what_would_be_refused(
    validator: jsonschema.Draft202012Validator, changed: dict[str, Any]
) -> None:
    validator.validate(GOOD)
    assert not validator.is_valid(GOOD | changed)


def test_an_editor_shows_help_for_every_key() -> None:
    schema = json_schema()
    for table in [*schema["$defs"].values(), {"properties": {}}]:
        for key, rules in table["properties"].items():
            assert rules.get("description"), key
