"""API keys: customer keys (``tk_``) and the seller's service keys (``sk_``).

How a key is written is told in ``kernel.key_text``. Only a keyed hash of the secret is
stored, so a stolen database holds no usable key.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from sqlalchemy import ColumnElement, func, insert, literal, update
from sqlalchemy import select as select_values
from sqlmodel import col, select

from tallystick.customers.models import Customer
from tallystick.identity.errors import InvalidKey, ScopeMissing, TooManyKeys, UnknownKey
from tallystick.identity.models import ApiKey, KeyKind
from tallystick.kernel.db import ReadSession, WriteSession, new_id, now_ms
from tallystick.kernel.key_text import NoKey, compose, new_secret, take_apart
from tallystick.kernel.seal import Seal

_PREFIX = {KeyKind.CUSTOMER: "tk", KeyKind.SERVICE: "sk"}
_KIND = {prefix: kind for kind, prefix in _PREFIX.items()}
_PURPOSE = "api key"
MOST_KEYS: Final = 100
"""Active keys that a customer can have."""


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
    """Make a key. A customer key belongs to a customer, a service key to none.

    Raises ``TooManyKeys`` when the customer has ``MOST_KEYS`` already.
    """
    assert (kind == KeyKind.CUSTOMER) == (customer_id is not None)
    key_id = new_id(session)
    secret = new_secret()
    row: dict[str, object] = {
        "id": key_id,
        "kind": kind,
        "customer_id": customer_id,
        "name": name,
        "secret_mac": seal.mac(_PURPOSE, secret.encode()),
        "scopes": " ".join(sorted(scopes)),
        "created_at_ms": now_ms(session),
        "expires_at_ms": expires_at_ms,
    }
    if customer_id is None:
        await session.exec(insert(ApiKey).values(**row))
    else:
        await _insert_one_of_few(session, customer_id, row)
    return NewKey(key_id, compose(_PREFIX[kind], key_id, secret))


async def _insert_one_of_few(
    session: WriteSession, customer_id: int, row: dict[str, object]
) -> None:
    # PostgreSQL's snapshots do not see each other's rows, so the keys of one customer
    # are made one after the other.
    whose = select(Customer.id).where(col(Customer.id) == customer_id)
    await session.exec(whose.with_for_update())
    expires_at = col(ApiKey.expires_at_ms)
    active = select(func.count()).where(
        col(ApiKey.customer_id) == customer_id,
        col(ApiKey.revoked_at_ms).is_(None),
        expires_at.is_(None) | (expires_at > now_ms(session)),
    )
    values = [literal(row[name], getattr(ApiKey, name).type) for name in row]
    one = select_values(*values).where(active.scalar_subquery() < MOST_KEYS)
    made = await session.exec(insert(ApiKey).from_select(list(row), one))
    if made.rowcount != 1:
        raise TooManyKeys(MOST_KEYS)


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
    try:
        return take_apart(text, _KIND)
    except NoKey as error:
        raise InvalidKey from error
