"""Letting a payback's money move: by the float, a signature in a browser, or a Safe.

A payback has one way from then on. It may be issued again on that way, with a later
window and the same nonce: whatever is signed, its money moves once.
"""

from collections.abc import Sequence
from functools import partial

from sqlalchemy import and_, or_, update
from sqlmodel import col

from tallystick.chain.token import is_valid_signature
from tallystick.kernel.db import Database, WriteSession, insert_once, now_ms
from tallystick.kernel.ids import encode_id
from tallystick.kernel.log import get_logger
from tallystick.operators.acts import Signed, note_act
from tallystick.payments.models.paybacks import (
    FloatDay,
    Payback,
    PaybackState,
    PaybackWay,
)
from tallystick.payments.paybacks.errors import (
    AboveFloatCap,
    ForeignSignature,
    NoFloatKey,
    PaybackNotReady,
)
from tallystick.payments.paybacks.proposing import require_no_debt
from tallystick.payments.paybacks.reading import read_payback
from tallystick.payments.paybacks.terms import authorization_of
from tallystick.payments.rail import Rail
from tallystick.payments.rules.gas import day_at
from tallystick.x402.eip712 import authorization_digest
from tallystick.x402.signature import Recovered, recover
from tallystick.x402.wire import Authorization

_log = get_logger(__name__)
WINDOW_SECONDS = {PaybackWay.FLOAT: 3_600, PaybackWay.BROWSER: 24 * 3_600}
"""How long what is handed out may be used; credits cannot be given back before."""


async def pay_from_float_key(
    db: Database, rail: Rail, payback_id: int, operator: str
) -> Payback:
    """Let the worker with the float's key sign and send it.

    Raises ``NoFloatKey``, ``AboveFloatCap``, and as ``issue`` does.
    """
    if rail.float_key is None:
        raise NoFloatKey("the server holds no key for it")
    sender = rail.float_key.address
    (paid,) = await _issue(db, rail, [payback_id], PaybackWay.FLOAT, sender, operator)
    return paid


async def hand_out(db: Database, rail: Rail, payback_id: int, operator: str) -> Payback:
    """Issue it for a signature of ``pay_to`` in the operator's browser."""
    way, sender = PaybackWay.BROWSER, rail.pay_to
    (handed,) = await _issue(db, rail, [payback_id], way, sender, operator)
    return handed


async def put_in_batch(
    db: Database,
    rail: Rail,
    payback_ids: Sequence[int],
    operator: str,
    *,
    again: bool = False,
) -> list[Payback]:
    """Issue them for a batch of the Safe at ``pay_to``; all of them or none.

    Not those of an earlier batch, unless ``again``: both could be executed.
    """
    way, ids = PaybackWay.SAFE, sorted(set(payback_ids))
    return await _issue(db, rail, ids, way, rail.pay_to, operator, again=again)


async def _issue(
    db: Database,
    rail: Rail,
    payback_ids: Sequence[int],
    way: PaybackWay,
    sender: bytes,
    operator: str,
    *,
    again: bool = True,
) -> list[Payback]:
    """Raises ``UnknownPayback``, ``PaybackNotReady``, ``CustomerOwes``, an outage."""
    signed = Signed(operator)
    head = await rail.head()
    until = None
    if way in WINDOW_SECONDS:
        until = head.timestamp_seconds + WINDOW_SECONDS[way]
    values = {
        "state": PaybackState.ISSUED,
        "way": way,
        "from_address": sender,
        "issued_by": signed.operator,
        "issued_block": head.number,
        "valid_before": until,
    }

    async def work(session: WriteSession) -> list[Payback]:
        now = head.timestamp_seconds if again else None
        for one in payback_ids:
            await note_act(session, signed, "issue_payback", encode_id("pbk", one))
        return [
            await _issue_one(session, rail, one, values, now) for one in payback_ids
        ]

    issued = await db.write(work)
    for one in issued:
        named = encode_id("pbk", one.id)
        _log.info("payback_issued", payback=named, way=way, operator=signed.operator)
    return issued


async def _issue_one(
    session: WriteSession,
    rail: Rail,
    payback_id: int,
    values: dict[str, object],
    now_seconds: int | None,
) -> Payback:
    """Without ``now_seconds`` nothing is issued again."""
    found = await read_payback(session, payback_id)
    await require_no_debt(session, found.customer_id)
    if found.state == PaybackState.ISSUED:
        if now_seconds is None:
            raise PaybackNotReady(payback_id, found.state)
        if _is_still_good(found, values, now_seconds):
            return found
    if found.state == PaybackState.APPROVED and values["way"] == PaybackWay.FLOAT:
        await _count_on_day(session, rail, found)
    again = and_(
        col(Payback.state) == PaybackState.ISSUED,
        col(Payback.way) == values["way"],
        col(Payback.from_address) == values["from_address"],
        # Exactly the window that was seen to be over.
        col(Payback.valid_before).is_not_distinct_from(found.valid_before),
    )
    # Where its Transfer is looked for begins with the first time.
    if found.issued_block is not None:
        values = values | {"issued_block": found.issued_block}
    statement = (
        update(Payback)
        .where(
            col(Payback.id) == payback_id,
            or_(col(Payback.state) == PaybackState.APPROVED, again),
        )
        .values(**values, signature=None, changed_at_ms=now_ms(session))
        .execution_options(synchronize_session=False)
    )
    if (await session.exec(statement)).rowcount != 1:
        await session.refresh(found)
        raise PaybackNotReady(payback_id, found.state)
    await session.refresh(found)
    return found


def _is_still_good(found: Payback, values: dict[str, object], now_seconds: int) -> bool:
    """On this way already, with a window that is not over: nothing is new."""
    is_so = (found.way, found.from_address) == (values["way"], values["from_address"])
    return is_so and (found.valid_before is None or found.valid_before > now_seconds)


async def _count_on_day(session: WriteSession, rail: Rail, found: Payback) -> None:
    """Count it on today's cap of the float. Raises ``AboveFloatCap``."""
    rules, day = rail.paybacks, day_at(now_ms(session))
    if found.usdc > rules.most:
        raise AboveFloatCap(found.usdc, rules.most, "one payback")
    row: dict[str, object] = {"chain_id": found.chain_id, "day": day, "usdc": 0}
    await insert_once(session, FloatDay, row)
    counted = (
        update(FloatDay)
        .where(
            col(FloatDay.chain_id) == found.chain_id,
            col(FloatDay.day) == day,
            col(FloatDay.usdc) + found.usdc <= rules.per_day,
        )
        .values(usdc=FloatDay.usdc + found.usdc)
        .execution_options(synchronize_session=False)
    )
    if (await session.exec(counted)).rowcount != 1:
        raise AboveFloatCap(found.usdc, rules.per_day, "a day")


async def take_signature(
    db: Database, rail: Rail, payback_id: int, signature: bytes
) -> Payback:
    """Keep what ``pay_to`` has signed, after looking at it; a worker may send it.

    Raises ``ForeignSignature``, ``UnknownPayback``, ``PaybackNotReady`` or
    ``RpcUnavailable``.
    """
    async with db.read() as session:
        seen = await read_payback(session, payback_id)
    if seen.state != PaybackState.ISSUED or seen.way != PaybackWay.BROWSER:
        raise PaybackNotReady(payback_id, seen.state)
    kept = _canonical(signature)
    if not await _is_signed(rail, authorization_of(seen), kept):
        raise ForeignSignature("it is not the paying address's, or of other terms")
    return await db.write(partial(keep_signature, seen, kept))


async def keep_signature(
    seen: Payback, signature: bytes, session: WriteSession
) -> Payback:
    """Store it before it is sent anywhere. Raises ``PaybackNotReady``."""
    statement = (
        update(Payback)
        .where(
            col(Payback.id) == seen.id,
            col(Payback.state) == PaybackState.ISSUED,
            col(Payback.way) == seen.way,
            col(Payback.valid_before) == seen.valid_before,
        )
        .values(signature=signature, changed_at_ms=now_ms(session))
        .execution_options(synchronize_session=False)
    )
    if (await session.exec(statement)).rowcount != 1:
        now = await read_payback(session, seen.id)
        raise PaybackNotReady(seen.id, now.state)
    return await read_payback(session, seen.id)


def _canonical(signature: bytes) -> bytes:
    """Some wallets write 0 and 1 where the token wants 27 and 28."""
    if len(signature) == 65 and signature[64] in {0, 1}:
        return signature[:64] + bytes((signature[64] + 27,))
    return signature


async def _is_signed(rail: Rail, terms: Authorization, signature: bytes) -> bool:
    """By the token's own rule: whoever has code is asked (EIP-1271), also EIP-7702's."""
    digest = authorization_digest(rail.domain, terms)
    if await rail.chain.code_at(terms.payer):
        return await is_valid_signature(rail.chain, terms.payer, digest, signature)
    found = recover(digest, signature)
    return isinstance(found, Recovered) and found.address == terms.payer
