"""Gas money is reserved in the write that stores what may spend it.

Each UTC day has two budgets: that of the key, which pays, and that of the payer, for
what comes to nothing; what is settled for another seller has his besides. A conditional
UPDATE reserves the most that a transaction may cost, and its row count is the verdict,
so that no two writes take the same money (docs/decisions/0026).
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, case, func, insert, update
from sqlmodel import col, select

from tallystick.chain.l1_fee import has_l1_fee, l1_fee_bound
from tallystick.chain.relay import Fees
from tallystick.kernel.db import ReadSession, WriteSession, insert_once, now_ms
from tallystick.payments.models.gas import (
    GasDay,
    GasOutcome,
    PayerGas,
    RelayedGas,
)
from tallystick.payments.models.merchants import MerchantGas
from tallystick.payments.rail import Rail
from tallystick.payments.rules.gas import MOST_ETHER, WEI, day_at

_MOST_WEI = 2 * MOST_ETHER * WEI


class NoBudget(Exception):
    """So much wei may not be spent now; nothing of the attempt may stay."""

    def __init__(self, wei: int) -> None:
        super().__init__()
        self.wei = wei


class DaySpent(NoBudget):
    """The key has no more gas money for today."""


class PayerSpent(NoBudget):
    """What may come to nothing of this payer's settlements today is used up."""


class MerchantSpent(NoBudget):
    """What may be spent today on the settlements of this merchant is used up."""


class GasTooDear(NoBudget):
    """Settling would cost too much of what it moves."""


@dataclass(frozen=True, slots=True)
class Bound:
    """The most that a transaction may cost, in wei for its gas and for its data."""

    gas: int
    price: Fees
    l1_fee: int = 0

    @property
    def wei(self) -> int:
        return self.gas * self.price.max_fee_per_gas + self.l1_fee


@dataclass(frozen=True, slots=True)
class Signed:
    """What is about to be stored: which transaction, who may waste it, and for whom.

    ``merchant_id`` is None for what is our own.
    """

    tx_hash: bytes
    relayer: bytes
    evm_nonce: int
    payer: bytes | None
    merchant_id: int | None = None


async def data_fee(rail: Rail, calldata_bytes: int) -> int:
    """The most that the chain bills for the data, in wei; 0 on one that does not.

    Raises ``RpcUnavailable`` or ``RpcErrorAnswer``.
    """
    if rail.outlook.has_l1_fee is None:
        rail.outlook.has_l1_fee = await has_l1_fee(rail.chain)
    if not rail.outlook.has_l1_fee:
        return 0
    return await l1_fee_bound(rail.chain, calldata_bytes)


async def reserve_first(
    session: WriteSession, rail: Rail, one: Signed, bound: Bound
) -> None:
    """Reserve what the first attempt at a nonce may cost.

    Raises ``DaySpent``, ``PayerSpent`` or ``MerchantSpent``; then nothing of the write
    may stay.
    """
    rules, wei, day = rail.gas, bound.wei, day_at(now_ms(session))
    if not await _take_of_day(session, rail, one, day, wei, rules.per_day):
        raise DaySpent(wei)
    if not await _take_of_payer(session, rail, one, day, wei, rules.per_payer):
        raise PayerSpent(wei)
    if not await _take_of_merchant(session, rail, one, day, wei, rules.per_merchant):
        raise MerchantSpent(wei)
    await _note(session, rail, one, day, wei)


async def reserve_more(
    session: WriteSession, rail: Rail, one: Signed, bound: Bound
) -> None:
    """Reserve what another attempt at the nonce may cost beyond those before.

    Only one of them can be mined. The key's budget has a quarter more for this, and
    neither payer nor merchant are in the way: a nonce that stays open stops everybody.
    Raises ``DaySpent``.
    """
    day = day_at(now_ms(session))
    wei = max(0, bound.wei - await _counted(session, rail, one))
    most = rail.gas.per_day_at_most
    if wei and not await _take_of_day(session, rail, one, day, wei, most):
        raise DaySpent(wei)
    if wei and not await _take_of_payer(session, rail, one, day, wei, _MOST_WEI):
        raise PayerSpent(wei)
    if wei and not await _take_of_merchant(session, rail, one, day, wei, _MOST_WEI):
        raise MerchantSpent(wei)
    await _note(session, rail, one, day, wei)


async def _take_of_day(
    session: WriteSession, rail: Rail, one: Signed, day: int, wei: int, most: int
) -> bool:
    if wei > most:
        return False
    place = {
        "chain_id": rail.domain.chain_id,
        "relayer": one.relayer,
        "day": day,
    }
    empty = {"reserved": 0, "spent": 0, "wasted": 0}
    await insert_once(session, GasDay, place | empty)
    counted = col(GasDay.reserved) + col(GasDay.spent)
    statement = (
        update(GasDay)
        .where(*day_of_key(rail, one.relayer, day), counted + wei <= most)
        .values(reserved=GasDay.reserved + wei)
        .execution_options(synchronize_session=False)
    )
    return (await session.exec(statement)).rowcount == 1


async def _take_of_payer(
    session: WriteSession, rail: Rail, one: Signed, day: int, wei: int, most: int
) -> bool:
    if one.payer is None:
        return True
    if wei > most:
        return False
    place = {"chain_id": rail.domain.chain_id, "payer": one.payer, "day": day}
    await insert_once(session, PayerGas, place | {"reserved": 0, "wasted": 0})
    counted = col(PayerGas.reserved) + col(PayerGas.wasted)
    statement = (
        update(PayerGas)
        .where(*day_of_payer(rail, one.payer, day), counted + wei <= most)
        .values(reserved=PayerGas.reserved + wei)
        .execution_options(synchronize_session=False)
    )
    return (await session.exec(statement)).rowcount == 1


async def _take_of_merchant(
    session: WriteSession, rail: Rail, one: Signed, day: int, wei: int, most: int
) -> bool:
    if one.merchant_id is None:
        return True
    if wei > most:
        return False
    place: dict[str, object] = {
        "chain_id": rail.domain.chain_id,
        "merchant_id": one.merchant_id,
        "day": day,
    }
    await insert_once(session, MerchantGas, place | {"reserved": 0, "spent": 0})
    counted = col(MerchantGas.reserved) + col(MerchantGas.spent)
    statement = (
        update(MerchantGas)
        .where(*day_of_merchant(rail, one.merchant_id, day), counted + wei <= most)
        .values(reserved=MerchantGas.reserved + wei)
        .execution_options(synchronize_session=False)
    )
    return (await session.exec(statement)).rowcount == 1


def day_of_key(rail: Rail, relayer: bytes, day: int) -> tuple[ColumnElement[bool], ...]:
    """The key's row of that day."""
    return (
        col(GasDay.chain_id) == rail.domain.chain_id,
        col(GasDay.relayer) == relayer,
        col(GasDay.day) == day,
    )


def day_of_payer(rail: Rail, payer: bytes, day: int) -> tuple[ColumnElement[bool], ...]:
    """The payer's row of that day."""
    return (
        col(PayerGas.chain_id) == rail.domain.chain_id,
        col(PayerGas.payer) == payer,
        col(PayerGas.day) == day,
    )


def day_of_merchant(
    rail: Rail, merchant_id: int, day: int
) -> tuple[ColumnElement[bool], ...]:
    """The merchant's row of that day."""
    return (
        col(MerchantGas.chain_id) == rail.domain.chain_id,
        col(MerchantGas.merchant_id) == merchant_id,
        col(MerchantGas.day) == day,
    )


async def _counted(session: WriteSession, rail: Rail, one: Signed) -> int:
    """What the nonce's attempts so far count, reserved or spent."""
    counted = col(RelayedGas.spent)
    is_open = col(RelayedGas.outcome) == GasOutcome.OPEN
    query = select(
        func.coalesce(func.sum(case((is_open, RelayedGas.reserved), else_=counted)), 0)
    ).where(
        col(RelayedGas.chain_id) == rail.domain.chain_id,
        col(RelayedGas.relayer) == one.relayer,
        col(RelayedGas.evm_nonce) == one.evm_nonce,
    )
    return int((await session.exec(query)).one())


async def _note(
    session: WriteSession, rail: Rail, one: Signed, day: int, wei: int
) -> None:
    await session.exec(
        insert(RelayedGas).values(
            tx_hash=one.tx_hash,
            chain_id=rail.domain.chain_id,
            relayer=one.relayer,
            evm_nonce=one.evm_nonce,
            payer=one.payer,
            merchant_id=one.merchant_id,
            day=day,
            reserved=wei,
            outcome=GasOutcome.OPEN,
            cost=0,
            spent=0,
            wasted=0,
        )
    )


async def is_hopeless(
    session: ReadSession | WriteSession, rail: Rail, payer: bytes, wei: int
) -> bool:
    """Whether so much more is beyond the payer's budget of today for good.

    By what came to nothing alone: what is reserved may come back.
    """
    day = day_at(now_ms(session))
    query = select(PayerGas.wasted).where(*day_of_payer(rail, payer, day))
    wasted = (await session.exec(query)).one_or_none() or 0
    return wasted > 0 and wasted + wei > rail.gas.per_payer


async def is_merchant_over(
    session: ReadSession | WriteSession, rail: Rail, merchant_id: int, wei: int
) -> bool:
    """Whether so much more is beyond the merchant's budget of today for good.

    By what is spent alone: of what is reserved some may come back.
    """
    day = day_at(now_ms(session))
    query = select(MerchantGas.spent).where(*day_of_merchant(rail, merchant_id, day))
    spent = (await session.exec(query)).one_or_none() or 0
    return spent + wei > rail.gas.per_merchant
