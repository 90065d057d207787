"""How payments are doing: what this process saw last, and what the database says.

It asks no node, so it may be asked often, also while no node answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import case, func
from sqlmodel import col, select

from tallystick.kernel.db import Database, ReadSession, now_ms
from tallystick.ledger.audit_rounds import Audited, AuditKind, audits
from tallystick.payments.merchants.health import MerchantHealth, merchant_health
from tallystick.payments.models.chain import ChainCursor
from tallystick.payments.models.gas import GasDay
from tallystick.payments.models.topups import IS_PENDING, Exposure, TopUp, TopUpState
from tallystick.payments.paybacks.health import PaybackHealth, payback_health
from tallystick.payments.rail import Compared, Rail
from tallystick.payments.rules.gas import day_at

_EVERYBODY = 0
_TEST_CHAINS = frozenset({84532, 31337})
"""They may stand still because nobody uses them."""
_OLD_HEAD_SECONDS = 120
_FAR_BEHIND_BLOCKS = 300
_OLD_COMPARISON_SECONDS = 600
_OLD_AUDIT_SECONDS: dict[str, int] = {AuditKind.RECENT: 600, AuditKind.WHOLE: 36 * 3600}


@dataclass(frozen=True, slots=True)
class Pending:
    """Top-ups of one state, and the age of the oldest of them in seconds."""

    state: str
    count: int
    oldest_seconds: int


@dataclass(frozen=True, slots=True)
class KeyGas:
    """What a relayer's transactions have cost, in wei, and what counts today."""

    relayer: bytes
    spent: int
    wasted: int
    today: int


@dataclass(frozen=True, slots=True)
class Health:
    """Blocks by height, times in seconds, money in atomic USDC; None is not known."""

    head_number: int | None
    head_age_seconds: int | None
    final_number: int | None
    observed_number: int | None
    compared: Compared | None
    compared_age_seconds: int | None
    audits: tuple[Audited, ...]
    pending: tuple[Pending, ...]
    quarantined: int
    exposure: int
    exposure_cap: int
    customer_cap: int
    relayer_wei: dict[bytes, int]
    without_gas: frozenset[bytes]
    gas: tuple[KeyGas, ...]
    paybacks: PaybackHealth
    merchants: MerchantHealth
    reasons: tuple[str, ...]

    @property
    def final_lag(self) -> int | None:
        """Blocks between the newest and the final one."""
        return _lag(self.head_number, self.final_number)

    @property
    def observer_lag(self) -> int | None:
        """Blocks between the newest and the last that was read."""
        return _lag(self.head_number, self.observed_number)


def _lag(head: int | None, behind: int | None) -> int | None:
    return None if head is None or behind is None else max(head - behind, 0)


async def health(db: Database, rail: Rail) -> Health:
    """What is known now."""
    outlook = rail.outlook
    async with db.read() as session:
        now = now_ms(session)
        observed = await _observed(session, rail)
        pending = await _pending(session, rail, now)
        quarantined = await _quarantined(session, rail)
        exposure = await _exposure(session, rail)
        gas = await _gas(session, rail, day_at(now))
        paybacks = await payback_health(session, rail, now)
        merchants = await merchant_health(session, rail, now)
        audited = await audits(session)
    head = None if outlook.head_number < 0 else outlook.head_number
    age = None if head is None else max(now // 1000 - outlook.head_seconds, 0)
    since = outlook.compares_since_ms
    if outlook.compared is not None:
        since = outlook.compared.at_ms
    compared_age = None if since is None else max(now - since, 0) // 1000
    cap = outlook.exposure_cap
    return Health(
        head_number=head,
        head_age_seconds=age,
        final_number=None if outlook.final_number < 0 else outlook.final_number,
        observed_number=observed,
        compared=outlook.compared,
        compared_age_seconds=compared_age,
        audits=audited,
        pending=pending,
        quarantined=quarantined,
        exposure=exposure,
        exposure_cap=rail.caps.floor if cap is None else cap,
        customer_cap=rail.caps.customer,
        relayer_wei=dict(outlook.relayer_wei),
        without_gas=frozenset(outlook.without_gas),
        gas=gas,
        paybacks=paybacks,
        merchants=merchants,
        reasons=(
            *_reasons(rail, age, _lag(head, observed), compared_age),
            *_reasons_of_audits(audited),
            *paybacks.reasons(),
        ),
    )


def _reasons(
    rail: Rail, head_age: int | None, lag: int | None, compared_age: int | None
) -> list[str]:
    """What is wrong, in words that a person understands."""
    found = [rail.silence] if rail.silence else []
    # Whoever takes no payments by choice has no trouble.
    if rail.takes_payments:
        found += rail.limits
    is_real = rail.domain.chain_id not in _TEST_CHAINS
    if is_real and head_age is not None and head_age > _OLD_HEAD_SECONDS:
        found.append(f"the newest block is {head_age} seconds old")
    if lag is not None and lag > _FAR_BEHIND_BLOCKS:
        found.append(f"the observer is {lag} blocks behind")
    compared = rail.outlook.compared
    if compared is not None and compared.findings:
        found.append("the books and the chain differ")
    if compared_age is not None and compared_age > _OLD_COMPARISON_SECONDS:
        found.append(f"books and chain were not compared for {compared_age} seconds")
    return found


def _reasons_of_audits(audited: Sequence[Audited]) -> list[str]:
    found = []
    if any(one.findings for one in audited):
        found.append("the books are not sound")
    for one in audited:
        if one.age_seconds > _OLD_AUDIT_SECONDS[one.kind]:
            what = (
                "new in the books" if one.kind == AuditKind.RECENT else "in the books"
            )
            words = f"what is {what} was not audited for {one.age_seconds} seconds"
            found.append(words)
    return found


async def _observed(session: ReadSession, rail: Rail) -> int | None:
    """The last block that was read of every address."""
    query = select(func.min(ChainCursor.block_number)).where(
        col(ChainCursor.chain_id) == rail.domain.chain_id,
        col(ChainCursor.token) == rail.domain.contract,
    )
    return (await session.exec(query)).one()


async def _pending(session: ReadSession, rail: Rail, now: int) -> tuple[Pending, ...]:
    query = (
        select(TopUp.state, func.count(), func.min(TopUp.created_at_ms))
        .where(IS_PENDING, col(TopUp.chain_id) == rail.domain.chain_id)
        .group_by(col(TopUp.state))
        .order_by(col(TopUp.state))
    )
    rows = await session.exec(query)
    return tuple(
        Pending(state, count, max(now - oldest, 0) // 1000)
        for state, count, oldest in rows
    )


async def _quarantined(session: ReadSession, rail: Rail) -> int:
    query = select(func.count(col(TopUp.id))).where(
        col(TopUp.state) == TopUpState.QUARANTINE,
        col(TopUp.chain_id) == rail.domain.chain_id,
    )
    return (await session.exec(query)).one()


async def _exposure(session: ReadSession, rail: Rail) -> int:
    query = select(Exposure.provisional).where(
        col(Exposure.chain_id) == rail.domain.chain_id,
        col(Exposure.customer_id) == _EVERYBODY,
    )
    return (await session.exec(query)).one_or_none() or 0


async def _gas(session: ReadSession, rail: Rail, day: int) -> tuple[KeyGas, ...]:
    """One row for each key and day, so this is short."""
    counted = col(GasDay.reserved) + col(GasDay.spent)
    today = case((col(GasDay.day) == day, counted), else_=0)
    query = (
        select(
            GasDay.relayer,
            func.sum(GasDay.spent),
            func.sum(GasDay.wasted),
            func.sum(today),
        )
        .where(col(GasDay.chain_id) == rail.domain.chain_id)
        .group_by(col(GasDay.relayer))
        .order_by(col(GasDay.relayer))
    )
    rows = await session.exec(query)
    return tuple(KeyGas(who, *(int(wei) for wei in figures)) for who, *figures in rows)
