"""The JSON Schema of the catalog language, with which editors complete and check.

``python -m tallystick.catalog.schema > docs/catalog.schema.json`` renews the copy that
ships; a test compares the two.
"""

import json
import sys
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from tallystick.catalog.models import Catalog


class _TomlSchema(GenerateJsonSchema):
    """TOML has no null: a key that may be None inside is a key that may be absent."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        if schema.get("default", ...) is None:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def json_schema() -> dict[str, Any]:
    """The schema of a whole catalog file, draft 2020-12."""
    schema = Catalog.model_json_schema(schema_generator=_TomlSchema)
    dialect = GenerateJsonSchema.schema_dialect
    return {"$schema": dialect, **schema, "title": "Tallystick catalog"}


def json_schema_text() -> str:
    """The schema as it stands in ``docs/catalog.schema.json``."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(json_schema_text())
