"""``Depends(paid("feature"))``: a route that costs credits.

The dependency admits the request; the ASGI wrapper captures or releases
(``wrapper.py``). Nothing leaves before the capture is durable.
"""

import inspect
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from fastapi import Request
from pydantic import BaseModel
from starlette.requests import HTTPConnection

from tallystick.api.asked import LARGEST_PRICED_BODY_BYTES, asked_of
from tallystick.api.errors import Answered, PaidTwice, PaidWebSocket
from tallystick.api.heartbeat import Heartbeat
from tallystick.api.parameters import parameters_of
from tallystick.api.passage import Admission, passage_of, running_of
from tallystick.api.priced import UNPRICED_METHODS, admit_asked
from tallystick.api.valid_call import require_valid
from tallystick.catalog.models import Feature
from tallystick.catalog.quantity import quantity_of
from tallystick.paywall.verdicts import Serve

Quantity = int | Decimal | Callable[[Request], Any]


class Paid:
    """The dependency that ``paid`` makes; see there."""

    def __init__(
        self,
        feature: str,
        quantity: Quantity | None,
        *,
        largest_body_bytes: int = LARGEST_PRICED_BODY_BYTES,
        is_sellers: bool = True,
    ) -> None:
        self.feature = feature
        self._quantity = quantity
        self._largest_body_bytes = largest_body_bytes
        self._is_sellers = is_sellers

    async def __call__(self, connection: HTTPConnection) -> Serve:
        """Let the request in, or raise what is answered instead."""
        if not isinstance(connection, Request):
            raise PaidWebSocket(self.feature)
        passage, running = passage_of(connection), running_of(connection)
        if passage.admission is not None:
            raise PaidTwice(self.feature)
        if connection.method in UNPRICED_METHODS:
            return Serve(usage=None, hold_id=None)
        read = await require_valid(connection) if self._is_sellers else {}
        feature = running.gate.catalog().feature(self.feature)
        asked = await asked_of(connection, self._largest_body_bytes)
        verdict = await admit_asked(
            running,
            asked,
            feature,
            await self._units(connection, feature, read),
            may_be_foreign=self._is_sellers,
        )
        if not isinstance(verdict, Serve):
            raise Answered(verdict)
        beat = Heartbeat(running.gate, verdict) if verdict.hold_id is not None else None
        passage.admission = Admission(running.gate, verdict, beat)
        return verdict

    async def _units(
        self, request: Request, feature: Feature, read: Mapping[str, Any]
    ) -> Any:
        if self._quantity is None:
            told = await parameters_of(request, feature)
            return quantity_of(feature, told | _counted_as_read(feature, told, read))
        if not callable(self._quantity):
            return self._quantity
        units = self._quantity(request)
        return await units if inspect.isawaitable(units) else units


def _counted_as_read(
    feature: Feature, told: Mapping[str, Any], read: Mapping[str, Any]
) -> dict[str, Any]:
    """What the route itself reads as the quantity, if it says so.

    A number may be told in a place that the route does not look at, or be left out
    where the route has a default: it must not be priced as something else than is used.
    """
    name = feature.quantity_from
    if name is None or (feature.parameters[name].type == "list" and name in told):
        return {}
    values = [read[name]] if name in read else []
    values += [found for one in read.values() for found in _in_model(one, name)]
    return {name: values[0]} if values and values[0] is not None else {}


def _in_model(value: Any, name: str) -> list[Any]:
    """What a model holds under that name or alias, if it does."""
    if not isinstance(value, BaseModel):
        return []
    fields = type(value).model_fields.items()
    aliased = [own for own, one in fields if one.validation_alias == name]
    named = [own for own, _ in fields if own == name]
    return [getattr(value, own) for own in aliased + named]


def paid(
    feature: str,
    *,
    quantity: Quantity | None = None,
    largest_body_bytes: int = LARGEST_PRICED_BODY_BYTES,
) -> Paid:
    """A dependency that lets a request in only when its price is held.

    ``quantity`` is a number of units, or a function of the request that gives one (an
    ``int`` or a ``Decimal``, perhaps awaited); without it the catalog's
    ``quantity_from`` tells. What the function raises is answered before anything is
    paid. A body larger than ``largest_body_bytes`` is refused with 413, because a
    payment is bound to all of it. OPTIONS and HEAD are not priced.
    """
    return Paid(feature, quantity, largest_body_bytes=largest_body_bytes)
