"""A gate at work: storage open, chain checked, workers running."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from tallystick import migrations
from tallystick.boot import (
    check_database,
    check_multicall,
    check_permit2,
    check_token,
    reachable,
    require_no_folder,
)
from tallystick.chain.errors import RpcUnavailable, TokenUnreadable, WrongChain
from tallystick.config import Settings
from tallystick.idle_settings import idle_settings
from tallystick.kernel.clock import Clock
from tallystick.kernel.db import Database
from tallystick.kernel.errors import Unavailable
from tallystick.kernel.log import get_logger
from tallystick.kernel.owner import FileOwner
from tallystick.ledger.sealing import seal_due, seal_late, seal_left_behind
from tallystick.payments.elsewhere import (
    SAID_EVERY_SECONDS,
    fall_silent,
    listen,
    say,
)
from tallystick.payments.errors import BooksOfAnotherChain
from tallystick.payments.gas.costs import settle_gas
from tallystick.payments.gas.solvency import check_budgets, check_gas
from tallystick.payments.observer import observe
from tallystick.payments.observing.confirm import confirm, look_at_heights
from tallystick.payments.observing.opening import open_books
from tallystick.payments.observing.payees import know_payees
from tallystick.payments.observing.same_chain import check_chain
from tallystick.payments.paybacks.funds import check_funds
from tallystick.payments.paybacks.paying import pay_out
from tallystick.payments.rail import Rail
from tallystick.payments.relaying.leases import keep_leases, release_leases
from tallystick.payments.relaying.nonces import register_relayers
from tallystick.payments.relaying.pushing import push_keys
from tallystick.paywall.forgetting import Rounds
from tallystick.paywall.gate import Gate
from tallystick.paywall.offered import NOTE_SECONDS, note_offered
from tallystick.safe_settings import UnsafeSettings, check_settings, check_worker
from tallystick.wiring import build_gate, rate_of
from tallystick.workers.auditing import Auditor
from tallystick.workers.merchants import settle_for_merchants
from tallystick.workers.reconciling import compare_and_mend
from tallystick.workers.rounds import repeat, whole
from tallystick.workers.settling import settle_for_ever
from tallystick.workers.upkeep import prune, sweep, tend_facilitator

_log = get_logger(__name__)
_RETRY_SECONDS = 2.0


async def preflight(settings: Settings) -> None:
    """Say what is wrong before a server starts: storage, owner, token.

    A chain that cannot be asked is no reason not to start: credits that are there can
    be spent. Raises ``UnsafeSettings``, ``InvalidCatalog``, ``AlreadyOwned``,
    ``WrongChain``, ``TokenUnreadable`` or ``BooksOfAnotherChain``.
    """
    async with _opened(settings) as gate:
        try:
            await check_contracts(gate.rail)
            await check_chain(gate.db, gate.rail)
            if gate.rail.witness is not None:
                await gate.rail.witness.chain.block("latest")
        except WrongChain:
            raise
        except RpcUnavailable as error:
            _log.warning("chain_unreachable", detail=error.detail, **error.for_operator)


@asynccontextmanager
async def running(
    settings: Settings, clock: Clock | None = None, *, api_prefix: str = ""
) -> AsyncIterator[Gate]:
    """The gate with its workers, for as long as the context lasts.

    Where the workers are in other processes, only with what tells how those are.
    Raises as ``preflight`` does.
    """
    async with _opened(settings, clock, api_prefix) as gate:
        _tell_of_idle(settings)
        await note_offered(gate.db, gate.catalog())
        works = [_run_on_chain(gate), _measure_for_ever(gate.db), _note_for_ever(gate)]
        if gate.rail.elsewhere is None:
            works += _upkeep(gate)
        async with _at_work(gate, works):
            yield gate


async def work_alone(settings: Settings, ended: asyncio.Event) -> None:
    """The workers without a server, until that event or a failure for good.

    Raises as ``preflight`` does.
    """
    check_worker(settings)
    async with _opened(settings) as gate:
        _tell_of_idle(settings)
        works = [_run_on_chain(gate), _measure_for_ever(gate.db), *_upkeep(gate)]
        async with _at_work(gate, works) as tasks:
            _log.info("worker_started", network=gate.rail.network)
            told = asyncio.create_task(ended.wait())
            await asyncio.wait([told, *tasks], return_when=asyncio.FIRST_COMPLETED)
            told.cancel()


def _upkeep(gate: Gate) -> list[Coroutine[Any, Any, None]]:
    return [_sweep_for_ever(gate), _seal_for_ever(gate.db), _audit_for_ever(gate.db)]


@asynccontextmanager
async def _at_work(
    gate: Gate, works: list[Coroutine[Any, Any, None]]
) -> AsyncIterator[list["asyncio.Task[None]"]]:
    """Do these meanwhile; the first opens the rail."""
    tasks = [asyncio.create_task(one) for one in works]
    try:
        # A short wait, so that a server which is ready can also take payments.
        await gate.rail.opening.wait(_RETRY_SECONDS)
        if tasks[0].done():
            await tasks[0]
        yield tasks
    finally:
        await _stop(tasks)
        if gate.rail.elsewhere is None:
            await _let_go(gate)


@asynccontextmanager
async def _opened(
    settings: Settings, clock: Clock | None = None, api_prefix: str = ""
) -> AsyncIterator[Gate]:
    check_settings(settings, is_serving=True)
    gate = build_gate(settings, clock, api_prefix=api_prefix)
    async with AsyncExitStack() as stack:
        stack.enter_context(own_file(gate.db))
        stack.push_async_callback(gate.db.close)
        stack.push_async_callback(gate.rail.close)
        if gate.rail.facilitator is not None:
            stack.push_async_callback(gate.rail.facilitator.close)
        # A SQLite file has one owner, so nobody else can be in the way.
        await open_storage(gate.db, migrate=gate.db.is_sqlite)
        # Who has credits may present a payment to an earlier address without a chain.
        await know_payees(gate.db, gate.rail)
        yield gate


@contextlib.contextmanager
def own_file(db: Database) -> Iterator[None]:
    """Holds a SQLite file for this process; nothing for PostgreSQL.

    Raises ``AlreadyOwned`` or ``UnsafeSettings``.
    """
    require_no_folder(db)
    path = db.writer.url.database
    with contextlib.ExitStack() as stack:
        if db.is_sqlite and path:
            with reachable():
                stack.enter_context(FileOwner(Path(path)))
        yield


async def open_storage(db: Database, *, migrate: bool) -> None:
    """The database at head, with an id slot of our own; raises ``UnsafeSettings``."""
    if migrate:
        with reachable():
            await migrations.upgrade(db)
    await check_database(db)
    await db.start()


async def check_contracts(rail: Rail) -> None:
    """Ours are the expected ones; raises as ``check_token`` does."""
    await check_token(rail.chain, rail.domain)
    if rail.factories:
        await check_multicall(rail.chain)
    if rail.takes_permit2:
        await check_permit2(rail.chain)


async def open_rail(gate: Gate) -> None:
    """The token is the expected one, the books are open, the relayers are known.

    Raises ``UnsafeSettings``, ``BooksOfAnotherChain``, or ``RpcUnavailable`` when the
    chain cannot be asked.
    """
    await check_contracts(gate.rail)
    await check_chain(gate.db, gate.rail)
    await open_books(gate.db, gate.rail)
    await register_relayers(gate.db, gate.rail)
    await check_gas(gate.rail)
    await check_budgets(gate.db, gate.rail)
    await tend_facilitator(gate.rail)
    if gate.rail.elsewhere is not None:
        await listen(gate.db, gate.rail)
    await gate.rail.head()
    gate.rail.opening.open()


async def _run_on_chain(gate: Gate) -> None:
    """Top-ups start once the chain has answered; until then credits can be spent."""
    while not gate.rail.opening.is_open:
        try:
            await whole(open_rail(gate))
        except UnsafeSettings as error:
            _log.error("chain_unexpected", problems=error.problems)
            raise
        except TokenUnreadable:
            raise
        except BooksOfAnotherChain as error:
            _log.error("books_of_another_chain", detail=error.detail)
            raise
        except Unavailable as error:
            _log.warning("chain_unreachable", detail=error.detail, **error.for_operator)
            await asyncio.sleep(_RETRY_SECONDS)
        except Exception:  # noqa: BLE001  # a restarted database is no reason to end
            _log.exception("chain_not_opened")
            await asyncio.sleep(_RETRY_SECONDS)
    _tell_of_payments(gate.rail)
    async with asyncio.TaskGroup() as group:
        is_elsewhere = gate.rail.elsewhere is not None
        for work in _lookouts(gate) if is_elsewhere else _chain_rounds(gate):
            group.create_task(work)


def _tell_of_idle(settings: Settings) -> None:
    for one in idle_settings(settings):
        said, _, next_step = one.partition(": ")
        _log.warning("setting_without_effect", detail=said, next_step=next_step)


def _tell_of_payments(rail: Rail) -> None:
    if rail.obstacle is None:
        _log.info("taking_payments", network=rail.network)
        for one in rail.limits:
            _log.warning("payments_limited", network=rail.network, reason=one)
    else:
        _log.warning("not_taking_payments", network=rail.network, reason=rail.obstacle)


def _lookouts(gate: Gate) -> list[Coroutine[Any, Any, None]]:
    """What a process without workers still has to know, to offer and to refuse."""
    db, rail = gate.db, gate.rail
    return [
        repeat("head", rail.head, every_seconds=2),
        repeat("heights", lambda: look_at_heights(rail), every_seconds=5),
        repeat("listener", lambda: listen(db, rail), every_seconds=2),
    ]


def _chain_rounds(gate: Gate) -> list[Coroutine[Any, Any, None]]:
    db, rail, seconds = gate.db, gate.rail, gate.hold_seconds
    rate = rate_of(gate.catalog)
    rounds = [
        settle_for_ever(db, rail, hold_seconds=seconds),
        settle_for_merchants(db, rail),
        repeat(
            "observer",
            lambda: observe(db, rail, rate, hold_seconds=seconds),
            every_seconds=max(2.0, rail.poll_seconds),
        ),
        repeat("confirmer", lambda: confirm(db, rail), every_seconds=5),
        # Several tries in the time of a lease.
        repeat(
            "leases",
            lambda: keep_leases(db, rail),
            every_seconds=rail.lease_seconds / 3,
        ),
        repeat("relayers", lambda: push_keys(db, rail), every_seconds=2),
        repeat("gas", lambda: check_gas(rail), every_seconds=10),
        repeat("gas costs", lambda: _count_gas(db, rail), every_seconds=2),
        repeat(
            "reconciler",
            lambda: compare_and_mend(db, rail, rate, hold_seconds=seconds),
            every_seconds=60,
        ),
    ]
    if rail.facilitator is not None:
        tend = repeat("facilitator", lambda: tend_facilitator(rail), every_seconds=10)
        rounds.append(tend)
    if rail.float_key is not None:
        rounds += [
            repeat("paybacks", lambda: pay_out(db, rail), every_seconds=2),
            repeat("float", lambda: check_funds(rail), every_seconds=10),
        ]
    if not db.is_sqlite:
        said = repeat(
            "presence", lambda: say(db, rail), every_seconds=SAID_EVERY_SECONDS
        )
        rounds.append(said)
    return rounds


async def _count_gas(db: Database, rail: Rail) -> None:
    # What was spent is known without a node.
    await check_budgets(db, rail)
    await settle_gas(db, rail)


async def _let_go(gate: Gate) -> None:
    """Leave the relayer keys to others, who would else wait for the leases' end."""
    try:
        await release_leases(gate.db, gate.rail)
        await fall_silent(gate.db, gate.rail)
    except Exception:  # noqa: BLE001  # they lapse by themselves
        _log.exception("leases_not_released")


async def _note_for_ever(gate: Gate) -> None:
    await repeat(
        "catalog",
        lambda: note_offered(gate.db, gate.catalog()),
        every_seconds=NOTE_SECONDS,
    )


async def _measure_for_ever(db: Database) -> None:
    """In every process: whoever has another time lapses what others hold.

    And whoever's time is set right knows alone what he posted until then.
    """
    async with asyncio.TaskGroup() as group:
        for work in (
            repeat("clock", db.measure_clock, every_seconds=10),
            repeat("own sealer", lambda: seal_left_behind(db), every_seconds=5),
        ):
            group.create_task(work)


async def _sweep_for_ever(gate: Gate) -> None:
    told = Rounds(gate.db)
    async with asyncio.TaskGroup() as group:
        for work in (
            repeat("sweeper", lambda: sweep(gate.db, gate.rail), every_seconds=10),
            repeat("forgetter", told.go_on, every_seconds=10),
            repeat("pruner", lambda: prune(gate.db, gate.rail), every_seconds=600),
        ):
            group.create_task(work)


async def _seal_for_ever(db: Database) -> None:
    async with asyncio.TaskGroup() as group:
        for work in (
            repeat("sealer", lambda: seal_due(db), every_seconds=5),
            repeat("late sealer", lambda: seal_late(db), every_seconds=600),
        ):
            group.create_task(work)


async def _audit_for_ever(db: Database) -> None:
    auditor = Auditor(db)
    async with asyncio.TaskGroup() as group:
        for work in (
            repeat("auditor", auditor.recent, every_seconds=60),
            # It looks whether it is time; the audit of everything takes minutes.
            repeat("night auditor", auditor.whole, every_seconds=60),
        ):
            group.create_task(work)


async def _stop(tasks: list["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task
