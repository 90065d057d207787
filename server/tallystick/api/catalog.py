"""The price list and the calculator."""

from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from tallystick.api.answers import ExactJson
from tallystick.api.bodies import Body, Number, body_schema, json_body
from tallystick.api.identify import GateDep
from tallystick.catalog.render import catalog_document, quote

router = APIRouter(prefix="/api/catalog", tags=["catalog"])


class QuoteRequest(Body):
    """A feature and how many units of it."""

    feature: str
    quantity: Number = Decimal(1)


@router.get("")
async def price_list(gate: GateDep) -> Response:
    """Everything that is for sale, at what price."""
    return ExactJson(catalog_document(gate.catalog()))


@router.post("/quote", openapi_extra=body_schema(QuoteRequest))
async def calculate(
    gate: GateDep, wanted: Annotated[QuoteRequest, Depends(json_body(QuoteRequest))]
) -> Response:
    """What a call would cost; nothing is charged."""
    catalog = gate.catalog()
    return ExactJson(quote(catalog, catalog.feature(wanted.feature), wanted.quantity))
