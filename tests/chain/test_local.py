"""The local chain is USDC's double, and leaves nothing running behind it."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tallystick.chain.anvil import AnvilFailed, AnvilMissing, find_anvil
from tallystick.chain.errors import RpcUnavailable
from tallystick.chain.local import (
    ADDRESSES,
    KEYS,
    WELL_KNOWN_ADDRESSES,
    WELL_KNOWN_KEYS,
    ArtifactMissing,
    LocalChain,
    artifact,
)
from tallystick.chain.logs import receipt
from tallystick.chain.token import balance_of
from tests.chain.payer import DOLLAR, PAY_TO, STRANGER, address_of

_HOLDER = textwrap.dedent(
    """
    import asyncio, sys
    from tallystick.chain.local import LocalChain

    async def main():
        async with LocalChain() as local:
            print(local.pid, flush=True)
            await asyncio.sleep(60)

    asyncio.run(main())
    """
)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def eventually(condition: Callable[[], bool]) -> bool:
    for _ in range(300):
        if condition():
            return True
        time.sleep(0.01)
    return False


async def test_stopping_ends_the_node_and_can_be_done_twice() -> None:
    local = LocalChain()
    await local.start()
    pid = local.pid
    assert pid
    assert is_alive(pid)
    outside = local.open_chain()
    assert await outside.chain_id() == 84532

    await local.stop()
    await local.stop()

    assert not is_alive(pid)
    with pytest.raises(RpcUnavailable):
        await outside.chain_id()
    await outside.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the death signal is Linux's")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_node_dies_with_the_program_that_started_it(how: signal.Signals) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _HOLDER],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert holder.stdout
    pid = int(holder.stdout.readline())
    assert is_alive(pid)

    holder.send_signal(how)
    holder.wait(10)
    holder.stdout.close()

    assert eventually(lambda: not is_alive(pid))


async def test_a_failed_start_leaves_nothing_running(tmp_path: Path) -> None:
    local = LocalChain(artifacts=tmp_path)
    with pytest.raises(ArtifactMissing):
        await local.start()
    assert local.pid is None


async def test_another_programs_node_on_the_port_is_not_taken_for_ours() -> None:
    async with LocalChain() as first:
        second = LocalChain(port=int(first.url.rpartition(":")[2]))
        with pytest.raises(AnvilFailed, match="ddress"):
            await second.start()
        assert second.pid is None


@pytest.mark.skipif(sys.platform != "linux", reason="Linux has all of 127/8")
async def test_a_node_listens_where_it_is_told_to() -> None:
    async with LocalChain(host="127.0.0.2") as local:
        assert local.url.startswith("http://127.0.0.2:")
        local.check()
        assert local.pid is not None
        os.kill(local.pid, signal.SIGKILL)
        # A zombie with threads still dying cannot be reaped yet: wait until it can.
        await asyncio.to_thread(os.waitid, os.P_PID, local.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(AnvilFailed, match="ended"):
            local.check()


async def test_a_node_is_silent_unless_its_log_is_wanted() -> None:
    async with LocalChain() as quiet, LocalChain(silent=False) as talking:
        for local in (quiet, talking):
            await local.mine()
        assert quiet.log
        assert talking.log
        assert "anvil_mine" not in quiet.log.read_text()
        assert "anvil_mine" in talking.log.read_text()


def test_a_missing_anvil_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(AnvilMissing) as caught:
        find_anvil(tmp_path / "anvil")
    assert "npm ci" in str(caught.value.next_step)
    with pytest.raises(AnvilMissing):
        find_anvil(tmp_path)


def test_runtime_code_is_read_from_the_build() -> None:
    assert len(artifact("TestDollar")) > 1000
    with pytest.raises(ArtifactMissing):
        artifact("NoSuchContract")


def test_the_well_known_keys_are_those_of_the_test_mnemonic() -> None:
    assert [address_of(key) for key in KEYS] == list(ADDRESSES)
    assert ADDRESSES[0].hex() == "f39fd6e51aad88f6f4ce6ab8827279cfffb92266"
    assert (len(WELL_KNOWN_KEYS), len(WELL_KNOWN_ADDRESSES)) == (20, 20)


async def test_money_is_minted_and_gas_given(local: LocalChain) -> None:
    await local.mint(PAY_TO, DOLLAR)
    await local.give_gas(PAY_TO, 5)
    assert await balance_of(local.chain, PAY_TO) == DOLLAR
    assert await local.chain.native_balance(PAY_TO) == 5


async def test_a_chain_that_mines_by_the_clock_is_ready_as_well() -> None:
    async with LocalChain(block_time=1, slots_in_an_epoch=4) as local:
        await local.mint(PAY_TO, DOLLAR)
        first = await local.chain.block("latest")
        assert first
        await asyncio.sleep(1.5)
        later = await local.chain.block("latest")
        assert later
        assert later.number > first.number
        await local.mine(20)
        head, safe = await local.chain.block("latest"), await local.chain.block("safe")
        assert head
        assert safe
        assert 4 <= head.number - safe.number <= 5
        assert await balance_of(local.chain, PAY_TO) == DOLLAR


async def test_snapshots_bring_back_the_state_but_not_across_a_reorg(
    local: LocalChain,
) -> None:
    name = await local.snapshot()
    await local.mint(PAY_TO, DOLLAR)
    await local.revert(name)
    assert await balance_of(local.chain, PAY_TO) == 0

    later = await local.snapshot()
    await local.mint(PAY_TO, DOLLAR)
    head = await local.chain.block("latest")
    assert head
    await local.reorg(head.number)
    with pytest.raises(ValueError, match="gone"):
        await local.revert(later)
    assert await balance_of(local.chain, PAY_TO) == 0


async def test_a_reorg_keeps_the_height_and_changes_the_blocks(
    local: LocalChain,
) -> None:
    await local.mine(5)
    before = [await local.chain.block(number) for number in range(4, 7)]
    head = await local.chain.block("latest")

    await local.reorg(5)

    after = [await local.chain.block(number) for number in range(4, 7)]
    newest = await local.chain.block("latest")
    assert head
    assert newest
    assert newest.number == head.number
    assert after[0] == before[0]
    assert after[1] != before[1]
    assert after[2] != before[2]


async def test_time_moves_when_told(local: LocalChain) -> None:
    before = await local.chain.block("latest")
    await local.advance(3600)
    after = await local.chain.block("latest")
    assert before
    assert after
    assert 3600 <= after.timestamp_seconds - before.timestamp_seconds < 3700


async def test_without_automine_a_submitted_transaction_waits(
    local: LocalChain,
) -> None:
    await local.set_automine(on=False)
    waiting = await local.submit(STRANGER, PAY_TO)
    assert await receipt(local.chain, waiting) is None
    sent = await local.send(STRANGER, PAY_TO)
    assert sent.succeeded
    assert await receipt(local.chain, waiting)
