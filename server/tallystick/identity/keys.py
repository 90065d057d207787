"""API keys: customer keys (``tk_``) and the seller's service keys (``sk_``).

A key is ``<prefix>_<id>_<secret>_<checksum>``: the id finds its row, the secret has 256
bits, the checksum tells a typing error from a wrong key without asking the database.
Only a keyed hash of the secret is stored, so a stolen database holds no usable key.
"""

import secrets
import zlib
from dataclasses import dataclass, field
from enum import StrEnum

from sqlalchemy import ColumnElement, insert, update
from sqlmodel import col, select

from tallystick.identity.errors import InvalidKey, ScopeMissing, UnknownKey
from tallystick.identity.models import ApiKey, KeyKind
from tallystick.kernel.db import ReadSession, WriteSession, new_id, now_ms
from tallystick.kernel.ids import UnknownId, decode_id, encode_id
from tallystick.kernel.seal import Seal

_PREFIX = {KeyKind.CUSTOMER: "tk", KeyKind.SERVICE: "sk"}
_KIND = {prefix: kind for kind, prefix in _PREFIX.items()}
_PURPOSE = "api key"


class Scope(StrEnum):
    """What a key may do."""

    READ = "read"
    """See its customer's credits and statement."""
    SPEND = "spend"
    """Spend its customer's credits at catalog price."""
    MANAGE = "manage"
    """Make and revoke its customer's keys."""


@dataclass(frozen=True, slots=True)
class ProvenKey:
    """A key that was verified just now; ``customer_id`` is None for a service key.

    ``expires_at_ms`` is None for one that never ends by itself.
    """

    id: int
    kind: KeyKind
    customer_id: int | None
    scopes: frozenset[Scope]
    expires_at_ms: int | None

    def require(self, scope: Scope) -> None:
        """Raise ``ScopeMissing`` unless the key has the scope."""
        if scope not in self.scopes:
            raise ScopeMissing(scope)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made. ``secret`` is the whole key; it cannot be shown again."""

    id: int
    secret: str = field(repr=False)


async def issue_key(
    session: WriteSession,
    seal: Seal,
    kind: KeyKind,
    *,
    name: str,
    scopes: frozenset[Scope],
    customer_id: int | None = None,
    expires_at_ms: int | None = None,
) -> NewKey:
    """Make a key. A customer key belongs to a customer, a service key to none."""
    assert (kind == KeyKind.CUSTOMER) == (customer_id is not None)
    key_id = new_id(session)
    secret = secrets.token_hex(32)
    await session.exec(
        insert(ApiKey).values(
            id=key_id,
            kind=kind,
            customer_id=customer_id,
            name=name,
            secret_mac=seal.mac(_PURPOSE, secret.encode()),
            scopes=" ".join(sorted(scopes)),
            created_at_ms=now_ms(session),
            expires_at_ms=expires_at_ms,
        )
    )
    body = f"{encode_id(_PREFIX[kind], key_id)}_{secret}"
    return NewKey(key_id, f"{body}_{_checksum(body)}")


async def verify_key(
    session: ReadSession | WriteSession, seal: Seal, text: str
) -> ProvenKey:
    """Who the key belongs to; raises ``InvalidKey``, always in the same words."""
    prefix, key_id, secret = _take_apart(text)
    query = select(ApiKey).where(col(ApiKey.id) == key_id)
    row = (await session.exec(query)).one_or_none()
    # A key that does not exist is compared too, so that the answer takes as long.
    expected = row.secret_mac if row is not None else bytes(32)
    fits = seal.verify(_PURPOSE, secret.encode(), expected)
    if row is None or not fits or row.kind != _KIND[prefix]:
        raise InvalidKey
    if row.revoked_at_ms is not None or (
        row.expires_at_ms is not None and row.expires_at_ms <= now_ms(session)
    ):
        raise InvalidKey
    scopes = frozenset(Scope(scope) for scope in row.scopes.split())
    kind = KeyKind(row.kind)
    return ProvenKey(row.id, kind, row.customer_id, scopes, row.expires_at_ms)


async def list_keys(
    session: ReadSession, customer_id: int, *, before: int | None, limit: int
) -> list[ApiKey]:
    """The customer's keys, newest first, those older than ``before``; never a secret."""
    whose = col(ApiKey.customer_id) == customer_id
    if before is not None:
        whose &= col(ApiKey.id) < before
    return await _list(session, whose, limit)


async def list_service_keys(session: ReadSession) -> list[ApiKey]:
    """The seller's own keys, newest first; never a secret."""
    return await _list(session, col(ApiKey.kind) == KeyKind.SERVICE, None)


async def _list(
    session: ReadSession, whose: ColumnElement[bool], limit: int | None
) -> list[ApiKey]:
    query = select(ApiKey).where(whose).order_by(col(ApiKey.id).desc()).limit(limit)
    return list((await session.exec(query)).all())


async def revoke_key(
    session: WriteSession, key_id: int, *, customer_id: int | None
) -> None:
    """End a key at once, for good. Raises ``UnknownKey`` for somebody else's.

    ``customer_id`` None is the operator, who may end any key.
    """
    statement = update(ApiKey).where(
        col(ApiKey.id) == key_id, col(ApiKey.revoked_at_ms).is_(None)
    )
    if customer_id is not None:
        statement = statement.where(col(ApiKey.customer_id) == customer_id)
    ended = await session.exec(statement.values(revoked_at_ms=now_ms(session)))
    if not ended.rowcount:
        raise UnknownKey(key_id)


def _take_apart(text: str) -> tuple[str, int, str]:
    parts = text.split("_")
    well_formed = len(parts) == 4 and parts[0] in _KIND and text.isascii()
    if not well_formed or _checksum("_".join(parts[:3])) != parts[3]:
        raise InvalidKey
    try:
        return parts[0], decode_id(parts[0], f"{parts[0]}_{parts[1]}"), parts[2]
    except UnknownId as error:
        # Its checksum is no secret, so what fits it may still be no key of ours.
        raise InvalidKey from error


def _checksum(body: str) -> str:
    return f"{zlib.crc32(body.encode()):08x}"
