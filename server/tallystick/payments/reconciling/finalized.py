"""Books and chain compared at the finalized block, from the last checkpoint on.

Every minute in production, so it reads what is new: the logs since the checkpoint, the
journal since the transaction that it names. The rows of what came in and went out are
added up in full, which the database does alone. What is older and wrong in the journal
itself shows in its seals (I15) and in ``reconcile``, which reads everything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from tallystick.chain.rpc import Block
from tallystick.chain.token import balance_of
from tallystick.kernel.db import Database, ReadSession, now_ms
from tallystick.kernel.ids import first_id_at
from tallystick.ledger.findings import Finding
from tallystick.payments.errors import BooksOfAnotherChain, TopUpsUnavailable
from tallystick.payments.models.chain import (
    ChainCheckpoint,
    ChainCursor,
    ChainOutflow,
    ChainTransfer,
)
from tallystick.payments.observing.dust import (
    Dust,
    dust_between,
    dust_upto,
    gather_dust,
    past_dust,
)
from tallystick.payments.observing.payees import rails_of
from tallystick.payments.observing.same_chain import check_chain
from tallystick.payments.rail import Rail
from tallystick.payments.reconciling.books import (
    Log,
    Sums,
    booked,
    ledger_usdc,
    newer_than,
    readable_upto,
    sums,
)
from tallystick.payments.reconciling.checkpoints import (
    I16,
    LedgerUpTo,
    check_links,
    checkpoints_of,
    first_off,
    newest,
    seal_checkpoint,
)
from tallystick.payments.reconciling.differences import I6, compare_logs, misbooked
from tallystick.payments.reconciling.reconcile import (
    I6_PAYEE,
    PayeeFigures,
    Reconciliation,
)
from tallystick.x402.keccak import checksum_address

SPAN_BLOCKS = 2_000
_SPANS = 20
"""In one round; a long history is caught up in several."""
DUE_BLOCKS = 1_800
DUE_MOVES = 100
"""When a checkpoint is written: an hour of Base, or so many Transfers."""
_LINKS = 100
"""Of how many checkpoints the seals are looked at each time."""
_LATE_MS = 600_000
"""How late a transaction may become visible after one with a later id."""


async def reconcile_finalized(
    db: Database, rail: Rail, *, seals: bool
) -> Reconciliation:
    """Compare what is final and new; ``seals`` writes checkpoints down where it is due.

    Raises ``RpcUnavailable``, ``TopUpsUnavailable`` before the books are open or when
    nothing is final, and ``BooksOfAnotherChain``.
    """
    await check_chain(db, rail)
    rails = await rails_of(db, rail)
    if seals:
        for one in rails:
            await gather_dust(db, one)
    final = await rail.chain.block("finalized")
    if final is None:
        raise TopUpsUnavailable("the node names no final block")
    findings, ledger = await _check_ledger(db, rails)
    paths = [await _walk(db, one, final, is_bounded=seals) for one in rails]
    payees = [await _weigh(one) for one in paths]
    for figures in payees:
        findings += figures.findings
    if seals and not findings:
        for path in paths:
            await _seal(db, path, ledger)
    async with db.read() as session:
        booked_usdc = await ledger_usdc(session, rail, after=ledger.through_id)
        booked_usdc += ledger.usdc
        for path in paths:
            newer = await newer_than(session, path.rail, path.reached)
            booked_usdc += path.cursor.opening_balance - newer.net
    chain_usdc = sum(one.chain_usdc for one in payees)
    height = paths[0].reached
    return Reconciliation(height, booked_usdc, chain_usdc, findings, tuple(payees))


async def _check_ledger(
    db: Database, rails: Sequence[Rail]
) -> tuple[list[Finding], LedgerUpTo]:
    """Whether the ledger has what the rows say, and where the next look may begin."""
    async with db.snapshot() as session:
        wanted = sum([(await sums(session, one)).net for one in rails])
        base = await _base(session, rails)
        through = max(first_id_at(now_ms(session) - _LATE_MS), base.through_id)
        found = await _ledger(session, rails[0], base, through)
        if found.usdc + await ledger_usdc(session, rails[0], after=through) == wanted:
            return [], found
        # One that came late is behind the checkpoint: then all of it agrees.
        found = await _ledger(session, rails[0], LedgerUpTo(), through)
        total = found.usdc + await ledger_usdc(session, rails[0], after=through)
        if total == wanted:
            return [], found
        told = f"ledger {total}, Transfers {wanted}"
        named = await misbooked(session, rails[0]) or ["in all"]
    return [Finding(I6, f"{told}; {one}") for one in named], found


async def _base(session: ReadSession, rails: Sequence[Rail]) -> LedgerUpTo:
    found = [LedgerUpTo()]
    for one in rails:
        last = await newest(session, one)
        if last is not None:
            found.append(LedgerUpTo(last.ledger_through_id, last.ledger_usdc))
    return max(found, key=lambda one: one.through_id)


async def _ledger(
    session: ReadSession, rail: Rail, base: LedgerUpTo, through: int
) -> LedgerUpTo:
    since = await ledger_usdc(session, rail, after=base.through_id, through=through)
    return LedgerUpTo(through, base.usdc + since)


@dataclass(slots=True)
class _Path:
    """How far one address was compared, and what had moved by then."""

    rail: Rail
    cursor: ChainCursor
    last: ChainCheckpoint | None
    reached: int
    moved: Sums
    dust_upto: int
    agreed: int
    moves: int = 0
    pending_dust: int = 0
    due: list[tuple[int, Sums]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_due(self) -> bool:
        """Whether enough was compared since the last checkpoint to write one down."""
        before = self.cursor.first_block - 1
        if self.due:
            before = self.due[-1][0]
        elif self.last is not None:
            before = self.last.block_number
        return self.reached - before >= DUE_BLOCKS or self.moves >= DUE_MOVES


async def _walk(db: Database, rail: Rail, final: Block, *, is_bounded: bool) -> _Path:
    """From the last checkpoint to the final block, or to the first difference."""
    path = await _begin(db, rail)
    target = min(final.number, path.cursor.block_number)
    spans = 0
    while path.reached < target and not path.findings:
        if is_bounded and spans == _SPANS:
            break  # the next round goes on
        before = path.reached
        await _read_on(db, path, min(before + SPAN_BLOCKS, target))
        if path.findings:
            path.agreed = before  # the logs up to there are the books'
        spans += 1
        if path.is_due and path.reached <= path.dust_upto:
            path.due.append((path.reached, path.moved))
            path.moves = 0
    return path


async def _begin(db: Database, rail: Rail) -> _Path:
    async with db.snapshot() as session:
        cursor = await readable_upto(session, rail)
        if cursor is None:
            raise TopUpsUnavailable("the books are not open yet: start the server once")
        made = await checkpoints_of(session, rail, most=_LINKS)
        links = check_links(made, are_all=len(made) < _LINKS)
        upto = await dust_upto(session, rail, cursor.first_block)
        off = await first_off(session, rail, made[-1:])
        if off is not None:
            made = await checkpoints_of(session, rail)
            off = await first_off(session, rail, made)
    if not made:
        begin = cursor.first_block - 1
        return _Path(rail, cursor, None, begin, Sums(0, 0), upto, begin)
    last = made[-1]
    moved = Sums(last.came_in, last.went_out)
    at = last.block_number
    path = _Path(rail, cursor, last, at, moved, upto, at, findings=links)
    if off is not None:
        path.findings += await _trace(db, path, made, *off)
    block = await rail.chain.block(last.block_number)
    if block is not None and block.hash != bytes(last.block_hash):
        raise BooksOfAnotherChain(last.block_number, None)
    return path


async def _trace(
    db: Database, path: _Path, made: Sequence[ChainCheckpoint], at: int, found: Sums
) -> list[Finding]:
    """Which log it is, between the checkpoint that is off and the one before."""
    one = made[at]
    first = made[at - 1].block_number + 1 if at else path.cursor.first_block
    rows = await _rows(db, path, first, one.block_number)
    named = await _differences(path.rail, first, one.block_number, rows)
    told = f"block {one.block_number}: checkpoint {one.came_in} in, {one.went_out} out;"
    told += f" Transfers {found.came_in} in, {found.went_out} out"
    return [Finding(I16, told), *named]


async def _read_on(db: Database, path: _Path, height: int) -> None:
    async with db.read() as session:
        height = await past_dust(session, path.rail, height)
    rows = await _rows(db, path, path.reached + 1, height)
    path.findings += await _differences(path.rail, path.reached + 1, height, rows)
    came_in, went_out, dust = rows
    moved = path.moved
    path.moved = Sums(
        moved.came_in + sum(came_in.values()) + dust.value,
        moved.went_out + sum(went_out.values()),
    )
    path.pending_dust += dust.pending
    path.moves += len(came_in) + len(went_out) + len(dust.rows)
    path.reached = height


_Rows = tuple[Mapping[Log, int], Mapping[Log, int], Dust]


async def _rows(db: Database, path: _Path, first: int, height: int) -> _Rows:
    rail = path.rail
    async with db.read() as session:
        return (
            await booked(session, ChainTransfer, rail, first, height),
            await booked(session, ChainOutflow, rail, first, height),
            await dust_between(session, rail, first, height, upto=path.dust_upto),
        )


async def _differences(
    rail: Rail, first: int, height: int, rows: _Rows
) -> list[Finding]:
    came_in, went_out, dust = rows
    return [
        *await compare_logs(rail, ChainTransfer, first, height, came_in, dust),
        *await compare_logs(rail, ChainOutflow, first, height, went_out),
    ]


async def _seal(db: Database, path: _Path, ledger: LedgerUpTo) -> None:
    for height, moved in path.due:
        block = await path.rail.chain.block(height)
        if block is None:
            raise TopUpsUnavailable("the node has not seen a block that it named")
        made = await db.write(
            partial(
                seal_checkpoint,
                rail=path.rail,
                before=path.last,
                block=block,
                moved=moved,
                ledger=ledger,
            )
        )
        if not made:
            break  # another process has read on from there
        async with db.read() as session:
            path.last = await newest(session, path.rail)


async def _weigh(path: _Path) -> PayeeFigures:
    """What the address holds at the block that was reached, by books and by chain."""
    rail, reached = path.rail, path.reached
    should_hold = path.cursor.opening_balance + path.moved.net
    holds = await balance_of(rail.chain, rail.pay_to, block=max(reached, 0))
    findings = path.findings
    unbooked = holds - should_hold - path.pending_dust
    if unbooked and not findings:
        told = f"{checksum_address(rail.pay_to)}: books {should_hold}, chain {holds}"
        findings.append(Finding(I6_PAYEE, f"{told} at block {reached}"))
    went_out = path.moved.went_out
    return PayeeFigures(
        rail.pay_to,
        reached,
        should_hold,
        holds,
        went_out,
        findings,
        agreed_block=path.agreed,
        unbooked_usdc=unbooked,
    )
