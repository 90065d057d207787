"""What ``/openapi.json`` says about prices, beyond what FastAPI finds by itself.

The features of the catalog are one route to FastAPI; here each has its own path, with
its parameters. Paid routes get their price and their 402.
"""

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

from fastapi import FastAPI

from tallystick.api.answers import PROBLEM
from tallystick.api.bodies import OUR_SCHEMA, SCHEMAS
from tallystick.api.paid_routes import paid_routes
from tallystick.api.passage import Running
from tallystick.catalog.argument_schema import argument_schema
from tallystick.catalog.models import Catalog, Feature, Parameter
from tallystick.catalog.pricing import usdc_for_credits
from tallystick.kernel.money import format_credits, format_usdc, parse_credits

PRICE = "x-tallystick-price"
_PROBLEM = f"{OUR_SCHEMA}Problem"
_UNPAID = f"{OUR_SCHEMA}PaymentRequired"
PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "A problem, told as RFC 9457 has it",
        "content": {PROBLEM: {"schema": {"$ref": f"{SCHEMAS}{_PROBLEM}"}}},
    }
}
_PAYMENT_REQUIRED = {
    "description": "Payment is required; everything needed to pay is in the answer",
    "headers": {
        "PAYMENT-REQUIRED": {
            "description": "The offers of x402 version 2, as base64 JSON",
            "schema": {"type": "string"},
        }
    },
    "content": {PROBLEM: {"schema": {"$ref": f"{SCHEMAS}{_UNPAID}"}}},
}
_RECEIPT_HEADERS = {
    name: {"description": words, "schema": {"type": "string"}}
    for name, words in {
        "Credits-Charged": "What this call cost, in credits",
        "Credits-Remaining": "What is left after it, in credits",
        "PAYMENT-RESPONSE": "What became of the payment, as base64 JSON",
    }.items()
}
_PROBLEM_MEMBERS = {
    "type": "A reference that names the problem",
    "title": "The problem in a few words",
    "detail": "What happened",
    "code": "The problem's name; it never changes",
    "next_step": "What the caller can do about it",
}
_SCHEMAS: dict[str, Any] = {
    _PROBLEM: {
        "type": "object",
        "required": ["title", "status", "code"],
        "properties": {
            **{
                name: {"type": ["string", "null"], "description": words}
                for name, words in _PROBLEM_MEMBERS.items()
            },
            "status": {"type": "integer", "description": "The HTTP status"},
        },
    },
    _UNPAID: {
        "allOf": [{"$ref": f"{SCHEMAS}{_PROBLEM}"}],
        "properties": {
            "credits": {"type": "number", "description": "What the caller has"},
            "required": {"type": "number", "description": "What the call costs"},
            "shortfall": {"type": "number", "description": "What is missing"},
            "topup_url": {"type": "string", "description": "Where credits are sold"},
            "packs": {"type": "array", "items": {"type": "object"}},
            "x402Version": {"type": "integer", "description": "1, with its `accepts`"},
            "accepts": {"type": "array", "items": {"type": "object"}},
        },
    },
}
_PAYERS: dict[str, Any] = {
    "TallystickKey": {
        "type": "http",
        "scheme": "bearer",
        "description": "A customer's API key, tk_…",
    },
    "TallystickPayment": {
        "type": "apiKey",
        "in": "header",
        "name": "PAYMENT-SIGNATURE",
        "description": "A payment for one of the offers in the 402 (x402 version 2)",
    },
}
_IN_QUERY = frozenset({"GET", "DELETE"})


def document(app: FastAPI, prefix: str) -> None:
    """Let the app's OpenAPI document tell prices, once its catalog is loaded."""
    plain = app.openapi
    told: dict[tuple[int, str], dict[str, Any]] = {}

    def openapi() -> dict[str, Any]:
        schema = plain()
        running = getattr(app.state, "tallystick", None)
        if not isinstance(running, Running):
            return _with_components(schema)
        catalog = running.gate.catalog()
        key = (id(schema), catalog.version)
        if key not in told:
            told.clear()
            told[key] = _with_components(schema)
            _tell_prices(app, told[key], prefix, catalog, running.handlers)
        return told[key]

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's manual has it


def _with_components(schema: dict[str, Any]) -> dict[str, Any]:
    """A copy in which everything that we refer to is there."""
    whole = deepcopy(schema)
    components = whole.setdefault("components", {})
    components.setdefault("schemas", {}).update(_SCHEMAS)
    components.setdefault("securitySchemes", {}).update(_PAYERS)
    for path_item in whole["paths"].values():
        for operation in path_item.values():
            components["schemas"] |= _lifted(operation)
    return whole


def _lifted(operation: Any) -> dict[str, Any]:
    """Our definitions inside of a body's schema, which loses them."""
    body = operation.get("requestBody", {}) if isinstance(operation, dict) else {}
    content = body.get("content", {}).get("application/json", {})
    schema = content.get("schema", {})
    inner = schema.get("$defs", {})
    ours = {name: inner[name] for name in inner if name.startswith(OUR_SCHEMA)}
    if ours:
        del schema["$defs"]
    return ours


def _tell_prices(
    app: FastAPI,
    whole: dict[str, Any],
    prefix: str,
    catalog: Catalog,
    served: Iterable[str],
) -> None:
    for slug in served:
        feature = catalog.feature(slug)
        path = f"{prefix}/features/{slug}"
        whole["paths"][path] = _feature_path(catalog, feature)
    for route in paid_routes(app):
        path_item = whole["paths"].get(route.path, {})
        for method in route.methods:
            if method.lower() in path_item:
                feature = catalog.feature(route.features[0])
                _price(path_item[method.lower()], catalog, feature)


def _feature_path(catalog: Catalog, feature: Feature) -> dict[str, Any]:
    return {
        method.lower(): _operation(catalog, feature, method)
        for method in feature.methods
    }


def _operation(catalog: Catalog, feature: Feature, method: str) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "tags": ["features"],
        "summary": feature.name,
        "description": feature.description,
        "operationId": f"{feature.slug}_{method.lower()}",
        "responses": {
            "200": {
                "description": "What the feature found",
                "headers": _RECEIPT_HEADERS,
                "content": {"application/json": {"schema": {}}},
            },
            **PROBLEM_RESPONSES,
        },
    }
    if method in _IN_QUERY:
        operation["parameters"] = [
            _query_parameter(feature, name, one)
            for name, one in feature.parameters.items()
        ]
    else:
        operation["requestBody"] = _json_body(feature)
    _price(operation, catalog, feature)
    return operation


def _price(operation: dict[str, Any], catalog: Catalog, feature: Feature) -> None:
    cost = parse_credits(feature.price)
    operation[PRICE] = {
        "feature": feature.slug,
        "credits": format_credits(cost),
        "usd": format_usdc(usdc_for_credits(catalog, cost)).removeprefix("$"),
        "unit": feature.unit_name,
        "quantity_from": feature.quantity_from,
    }
    if cost:
        operation.setdefault("responses", {})["402"] = _PAYMENT_REQUIRED
        if "security" not in operation:
            operation["security"] = [{name: []} for name in _PAYERS]


def _query_parameter(feature: Feature, name: str, one: Parameter) -> dict[str, Any]:
    parameter = {
        "name": name,
        "in": "query",
        "required": one.required,
        "description": one.description,
        "schema": argument_schema(feature, name, one),
    }
    if one.type == "list":
        parameter |= {"style": "form", "explode": False}
    return parameter


def _json_body(feature: Feature) -> dict[str, Any]:
    properties = {
        name: {**argument_schema(feature, name, one), "description": one.description}
        for name, one in feature.parameters.items()
    }
    required = [name for name, one in feature.parameters.items() if one.required]
    schema = {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
    content = {"application/json": {"schema": schema}}
    return {"required": bool(required), "content": content}
