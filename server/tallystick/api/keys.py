"""A customer's API keys."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import AfterValidator, Field, StrictInt
from starlette.responses import Response

from tallystick.api.answers import ExactJson
from tallystick.api.bodies import Body, body_schema, json_body
from tallystick.api.errors import InvalidRequest
from tallystick.api.identify import CustomerDep, GateDep, ReaderDep
from tallystick.api.paging import read_cursor
from tallystick.api.plain_words import told
from tallystick.identity.keys import ProvenKey, Scope, issue_key, list_keys, revoke_key
from tallystick.identity.models import ApiKey, KeyKind
from tallystick.kernel.ids import decode_id, encode_id
from tallystick.paywall.answer import NO_STORE

router = APIRouter(prefix="/api/keys", tags=["keys"])


def _printable(name: str) -> str:
    # PostgreSQL holds no NUL, and a name stands in logs and lists.
    if not name.isprintable():
        raise told("is not printable", "letters, digits and signs")
    return name


class NewKeyRequest(Body):
    """A key to make. ``expires_in_seconds`` None never expires."""

    name: Annotated[str, AfterValidator(_printable)] = Field(default="", max_length=80)
    scopes: frozenset[Scope] = Field(
        default=frozenset({Scope.READ, Scope.SPEND}), min_length=1
    )
    expires_in_seconds: StrictInt | None = Field(
        default=None, ge=1, le=10 * 366 * 86400
    )


@router.post("", status_code=201, openapi_extra=body_schema(NewKeyRequest))
async def make_key(
    gate: GateDep,
    caller: CustomerDep,
    wanted: Annotated[NewKeyRequest, Depends(json_body(NewKeyRequest))],
) -> Response:
    """Make a key for the caller's own credits. Its secret is shown this once."""
    caller.require(Scope.MANAGE)
    expires_at_ms = None
    if wanted.expires_in_seconds is not None:
        expires_at_ms = gate.db.clock.now_ms() + wanted.expires_in_seconds * 1000
    if caller.key is not None:
        _require_no_more(caller.key, wanted.scopes, expires_at_ms)
    made = await gate.db.write(
        lambda session: issue_key(
            session,
            gate.seal,
            KeyKind.CUSTOMER,
            name=wanted.name,
            scopes=wanted.scopes,
            customer_id=caller.customer_id,
            expires_at_ms=expires_at_ms,
        )
    )
    document = {
        "id": encode_id("key", made.id),
        "secret": made.secret,
        "name": wanted.name,
        "scopes": sorted(wanted.scopes),
        "expires_at_ms": expires_at_ms,
    }
    return ExactJson(document, 201, NO_STORE)


def _require_no_more(
    maker: ProvenKey, scopes: frozenset[Scope], expires_at_ms: int | None
) -> None:
    """A stolen key must not turn into one that may more, or that stays for longer."""
    if not scopes <= maker.scopes:
        raise InvalidRequest("a key cannot make a key that may more", field="scopes")
    end = maker.expires_at_ms
    if end is not None and (expires_at_ms is None or expires_at_ms > end):
        raise InvalidRequest(
            "a key cannot make a key that outlives it", field="expires_in_seconds"
        )


@router.get("")
async def show_keys(
    gate: GateDep,
    caller: ReaderDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    cursor: str | None = None,
) -> Response:
    """The caller's keys, newest first; pass ``next_cursor`` on for older ones."""
    caller.require(Scope.READ)
    owner, before = caller.customer_id, read_cursor(cursor)
    keys: list[ApiKey] = []
    if owner is not None:
        async with gate.db.read() as session:
            keys = await list_keys(session, owner, before=before, limit=limit + 1)
    page, rest = keys[:limit], keys[limit:]
    following = str(page[-1].id) if rest else None
    document = {"keys": [_key(one) for one in page], "next_cursor": following}
    return ExactJson(document, headers=NO_STORE)


@router.delete("/{key_id}", status_code=204)
async def end_key(gate: GateDep, caller: CustomerDep, key_id: str) -> Response:
    """Revoke a key at once."""
    caller.require(Scope.MANAGE)
    number = decode_id("key", key_id)
    await gate.db.write(
        lambda session: revoke_key(session, number, customer_id=caller.customer_id)
    )
    return Response(status_code=204)


def _key(one: ApiKey) -> dict[str, Any]:
    return {
        "id": encode_id("key", one.id),
        "name": one.name,
        "scopes": one.scopes.split(),
        "created_at_ms": one.created_at_ms,
        "expires_at_ms": one.expires_at_ms,
        "revoked_at_ms": one.revoked_at_ms,
    }
