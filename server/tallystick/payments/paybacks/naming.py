"""An operator's hint at the transaction in which a Safe has paid."""

from sqlalchemy import update
from sqlmodel import col

from tallystick.kernel.db import Database, WriteSession, now_ms
from tallystick.payments.models.paybacks import Payback, PaybackState, PaybackWay
from tallystick.payments.paybacks.errors import PaybackNotReady
from tallystick.payments.paybacks.reading import read_payback


async def name_transaction(db: Database, payback_id: int, tx_hash: bytes) -> Payback:
    """From now on no other transaction's Transfer closes it; the chain has to agree.

    Raises ``UnknownPayback`` or ``PaybackNotReady``.
    """

    async def work(session: WriteSession) -> Payback:
        statement = (
            update(Payback)
            .where(
                col(Payback.id) == payback_id,
                col(Payback.state) == PaybackState.ISSUED,
                col(Payback.way) == PaybackWay.SAFE,
            )
            .values(named_tx=tx_hash, changed_at_ms=now_ms(session))
            .execution_options(synchronize_session=False)
        )
        done = await session.exec(statement)
        found = await read_payback(session, payback_id)
        if done.rowcount != 1:
            raise PaybackNotReady(payback_id, found.state)
        return found

    return await db.write(work)
