"""What signed transactions have cost, once one at their nonce is mined.

The receipt of whichever attempt says it, and the reservations of all attempts at that
nonce end in one write. A nonce without a receipt was used by somebody else; that is
believed once it is final.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import update
from sqlmodel import col, select

from tallystick.chain.logs import Receipt, receipt
from tallystick.chain.rpc import Chain
from tallystick.kernel.db import Database, WriteSession
from tallystick.payments.gas.budget import (
    day_of_key,
    day_of_merchant,
    day_of_payer,
)
from tallystick.payments.models.gas import (
    IS_OPEN_GAS,
    GasDay,
    GasOutcome,
    PayerGas,
    RelayedGas,
)
from tallystick.payments.models.merchants import MerchantGas
from tallystick.payments.models.topups import RelayedTransaction, SentKind
from tallystick.payments.rail import Rail
from tallystick.payments.rules.gas import WEI

_BATCH = 64


class _Raced(Exception):
    """Another process has settled it; nothing of this write may stay."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    sent: RelayedTransaction
    gas: RelayedGas


@dataclass(frozen=True, slots=True)
class _Mined:
    """Which attempt was mined, if one of ours was, and what it cost in wei."""

    attempt: _Attempt | None = None
    succeeded: bool = False
    cost: int = 0

    @property
    def is_wasted(self) -> bool:
        """Whether it moved no money."""
        one = self.attempt
        return one is not None and not (
            self.succeeded and one.sent.kind == SentKind.SETTLEMENT
        )

    def outcome_of(self, one: _Attempt) -> GasOutcome:
        if one is not self.attempt:
            return GasOutcome.NOT_MINED
        return GasOutcome.SUCCEEDED if self.succeeded else GasOutcome.REVERTED


async def settle_gas(db: Database, rail: Rail) -> None:
    """End the reservations of what is mined, of keys that are nobody else's.

    Raises ``RpcUnavailable``.
    """
    ours = {one.address: rail.sequence(one).fence for one in rail.relayers}
    for address in await _with_open(db, rail):
        if ours.get(address, 0) is not None:
            await _settle_of(db, rail, address)


async def _with_open(db: Database, rail: Rail) -> list[bytes]:
    query = select(RelayedGas.relayer).where(
        col(RelayedGas.chain_id) == rail.domain.chain_id, IS_OPEN_GAS
    )
    async with db.read() as session:
        return list((await session.exec(query.distinct())).all())


async def _settle_of(db: Database, rail: Rail, address: bytes) -> None:
    mined_below = await rail.chain.nonce(address, "latest")
    query = (
        select(RelayedGas.evm_nonce)
        .where(
            col(RelayedGas.chain_id) == rail.domain.chain_id,
            col(RelayedGas.relayer) == address,
            col(RelayedGas.evm_nonce) < mined_below,
            IS_OPEN_GAS,
        )
        .distinct()
        .order_by(col(RelayedGas.evm_nonce))
        .limit(_BATCH)
    )
    async with db.read() as session:
        nonces = (await session.exec(query)).all()
    for nonce in nonces:
        attempts = await _attempts(db, rail, address, nonce)
        found = await _look(rail, attempts)
        if found is not None:
            await _close(db, rail, attempts, found)


async def _attempts(
    db: Database, rail: Rail, address: bytes, nonce: int
) -> list[_Attempt]:
    query = (
        select(RelayedTransaction, RelayedGas)
        .join(RelayedGas, col(RelayedGas.tx_hash) == col(RelayedTransaction.tx_hash))
        .where(
            col(RelayedTransaction.chain_id) == rail.domain.chain_id,
            col(RelayedTransaction.relayer) == address,
            col(RelayedTransaction.evm_nonce) == nonce,
        )
        .order_by(col(RelayedTransaction.attempt))
    )
    async with db.read() as session:
        return [_Attempt(sent, gas) for sent, gas in await session.exec(query)]


async def _look(rail: Rail, attempts: Sequence[_Attempt]) -> _Mined | None:
    """What became of the nonce; None while that is unknown."""

    async def ask(node: Chain) -> _Mined | None:
        one = attempts[0].sent
        final = await node.nonce(one.relayer, "finalized")
        for attempt in attempts:
            found = await receipt(node, attempt.sent.tx_hash)
            if found is not None:
                return _Mined(attempt, found.succeeded, _cost(attempt, found))
        return _Mined() if final > one.evm_nonce else None

    return await rail.chain.of_one_node(ask)


def _cost(attempt: _Attempt, found: Receipt) -> int:
    """What it took; a node that errs must not make it more than it can be."""
    sent = attempt.sent
    most = sent.gas_limit * sent.max_fee_per_gas
    return min(found.gas_used * found.effective_gas_price, most) + min(
        found.l1_fee, WEI
    )


def divide(cost: int, reserved: Sequence[int]) -> list[int]:
    """A nonce's cost among its attempts, by what each had reserved.

    Each counts on the day of its own, so no day gets more than it had reserved; only
    a fee for data that has risen since goes beyond all, on the last.
    """
    parts = []
    for most in reserved:
        parts.append(min(cost, most))
        cost -= parts[-1]
    parts[-1] += cost
    return parts


async def _close(
    db: Database, rail: Rail, attempts: Sequence[_Attempt], mined: _Mined
) -> None:
    is_open = [one.gas.outcome == GasOutcome.OPEN for one in attempts]
    still = [one for one, opened in zip(attempts, is_open, strict=True) if opened]
    if not still:
        return  # somebody else closed it since its nonce was listed
    # Some were settled before by a block that was replaced.
    before = sum(one.gas.spent for one in attempts if one not in still)
    left = max(0, mined.cost - before)
    parts = divide(left, [one.gas.reserved for one in still])

    async def work(session: WriteSession) -> None:
        for one, part in zip(still, parts, strict=True):
            await _end(session, rail, one, mined, part)

    try:
        await db.write(work)
    except _Raced:
        return
    rail.work.notify()


async def _end(
    session: WriteSession, rail: Rail, one: _Attempt, mined: _Mined, spent: int
) -> None:
    gas = one.gas
    wasted = spent if mined.is_wasted else 0
    ended = await session.exec(
        update(RelayedGas)
        .where(col(RelayedGas.tx_hash) == gas.tx_hash, IS_OPEN_GAS)
        .values(
            outcome=mined.outcome_of(one),
            cost=mined.cost if one is mined.attempt else 0,
            spent=spent,
            wasted=wasted,
        )
        .execution_options(synchronize_session=False)
    )
    if ended.rowcount != 1:
        raise _Raced
    await session.exec(
        update(GasDay)
        .where(*day_of_key(rail, gas.relayer, gas.day))
        .values(
            reserved=GasDay.reserved - gas.reserved,
            spent=GasDay.spent + spent,
            wasted=GasDay.wasted + wasted,
        )
        .execution_options(synchronize_session=False)
    )
    if gas.merchant_id is not None:
        await session.exec(
            update(MerchantGas)
            .where(*day_of_merchant(rail, gas.merchant_id, gas.day))
            .values(
                reserved=MerchantGas.reserved - gas.reserved,
                spent=MerchantGas.spent + spent,
            )
            .execution_options(synchronize_session=False)
        )
    if gas.payer is None:
        return
    await session.exec(
        update(PayerGas)
        .where(*day_of_payer(rail, gas.payer, gas.day))
        .values(
            reserved=PayerGas.reserved - gas.reserved,
            wasted=PayerGas.wasted + wasted,
        )
        .execution_options(synchronize_session=False)
    )
