"""Finding accounts by their code, and opening those that are new."""

from collections.abc import Iterable

from sqlalchemy import insert
from sqlmodel import col, select

from tallystick.kernel.db import WriteSession, insert_once, new_id
from tallystick.ledger.chart import AccountName
from tallystick.ledger.models import AccountBalance, LedgerAccount

_FIGURES = ("balance", "held", "deferred", "version", "revision", "burning_left")


async def ensure_accounts(
    session: WriteSession, names: Iterable[AccountName]
) -> dict[str, int]:
    """The row id of every account by its code; missing ones are opened empty."""
    wanted = {name.code: name for name in names}
    known = await _known(session, wanted)
    for code in sorted(wanted.keys() - known.keys()):
        await _open(session, wanted[code])
    if len(known) < len(wanted):
        known = await _known(session, wanted)
    return known


async def _known(session: WriteSession, codes: Iterable[str]) -> dict[str, int]:
    query = select(LedgerAccount.code, LedgerAccount.id)
    rows = await session.exec(query.where(col(LedgerAccount.code).in_(list(codes))))
    return dict(rows.all())


async def _open(session: WriteSession, name: AccountName) -> None:
    account_id = new_id(session)
    account: dict[str, object] = {
        "id": account_id,
        "code": name.code,
        "asset": name.asset.code,
        "customer_id": name.customer_id,
    }
    if not await insert_once(session, LedgerAccount, account):
        return  # another process opened it meanwhile, and its balance row with it
    if name.customer_id is not None:
        empty = dict.fromkeys(_FIGURES, 0) | {
            "ledger_account_id": account_id,
            "customer_id": name.customer_id,
        }
        await session.exec(insert(AccountBalance).values(empty))
