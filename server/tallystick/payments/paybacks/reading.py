"""Finding paybacks, and telling of them."""

from typing import Any

from sqlalchemy import ColumnElement
from sqlmodel import col, select

from tallystick.kernel.clock import rfc3339
from tallystick.kernel.db import ReadSession, WriteSession
from tallystick.kernel.ids import encode_id
from tallystick.kernel.money import USDC_SCALE, to_decimal
from tallystick.payments.models.paybacks import IS_ISSUED, Payback, PaybackState
from tallystick.payments.paybacks.errors import UnknownPayback
from tallystick.payments.rail import Rail
from tallystick.x402.keccak import checksum_address


async def read_payback(session: ReadSession | WriteSession, payback_id: int) -> Payback:
    """The payback; raises ``UnknownPayback``."""
    query = select(Payback).where(col(Payback.id) == payback_id)
    found = (await session.exec(query)).one_or_none()
    if found is None:
        raise UnknownPayback(payback_id)
    return found


async def list_paybacks(
    session: ReadSession, *, state: PaybackState | None, limit: int
) -> list[Payback]:
    """The newest first, of one state or of all."""
    query = select(Payback).order_by(col(Payback.id).desc()).limit(limit)
    if state is not None:
        query = query.where(col(Payback.state) == state)
    return list((await session.exec(query)).all())


def issued_on(rail: Rail) -> tuple[ColumnElement[bool], ...]:
    """Those of the rail's token whose money may be on its way."""
    return (
        col(Payback.chain_id) == rail.domain.chain_id,
        col(Payback.token) == rail.domain.contract,
        IS_ISSUED,
    )


def facts_of(one: Payback) -> dict[str, Any]:
    """What an operator is shown; no signature."""
    return {
        "id": encode_id("pbk", one.id),
        "state": one.state,
        "topup": _topup(one.topup_id),
        "is_of_transfer": one.chain_transfer_id is not None,
        "customer": encode_id("cus", one.customer_id),
        "credits": to_decimal(one.credits),
        "usdc": to_decimal(one.usdc, USDC_SCALE),
        "to": checksum_address(bytes(one.to_address)),
        "from": _address(one.from_address),
        "way": one.way,
        "nonce": f"0x{bytes(one.nonce).hex()}",
        "valid_before": _time(one.valid_before),
        "is_signed": one.signature is not None,
        "transaction": _hash(one.tx_hash),
        "block": one.block_number,
        "proposed_by": one.proposed_by,
        "reason": one.reason,
        "approved_by": one.approved_by,
        "issued_by": one.issued_by,
        "cancelled_by": one.cancelled_by,
        "cancel_reason": one.cancel_reason,
        "proposed_at": rfc3339(one.proposed_at_ms),
        "changed_at": rfc3339(one.changed_at_ms),
    }


def _topup(found: int | None) -> str | None:
    return None if found is None else encode_id("top", found)


def _address(found: bytes | None) -> str | None:
    return None if found is None else checksum_address(bytes(found))


def _hash(found: bytes | None) -> str | None:
    return None if found is None else f"0x{bytes(found).hex()}"


def _time(seconds: int | None) -> str | None:
    return None if seconds is None else rfc3339(seconds * 1000)
