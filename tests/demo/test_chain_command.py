"""``tallystick chain`` as a program."""

import asyncio
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tallystick.chain.local import OFFICIAL_USDC
from tallystick.chain.rpc import Chain
from tallystick.chain.token import balance_of
from tallystick.cli import app

CLI = "from tallystick.cli import main; main()"
HOLDER = "0x00000000000000000000000000000000000000A1"
PROGRAM = (sys.executable, "-c", CLI, "chain")


async def _dollars_at(url: str) -> int:
    usdc = OFFICIAL_USDC[84532][1]
    chain = Chain((url,), chain_id=84532, token=usdc, timeout_seconds=5)
    try:
        return await balance_of(chain, bytes.fromhex(HOLDER[2:]))
    finally:
        await chain.close()


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_a_chain_with_dollars_runs_until_it_is_told_to_stop(
    tmp_path: Path, free_port: int, which: signal.Signals
) -> None:
    options = ("--port", str(free_port), "--mint", f"{HOLDER}=12.5")
    with subprocess.Popen(
        [*PROGRAM, *options], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            told = ""
            while "never use them" not in told:
                line = process.stdout.readline()
                assert line, told
                told += line
            url = f"http://127.0.0.1:{free_port}"
            assert re.search(rf"^export TALLYSTICK_RPC_URLS={url}$", told, re.MULTILINE)
            assert asyncio.run(_dollars_at(url)) == 12_500_000
        finally:
            process.send_signal(which)
        assert process.wait(20) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", free_port), timeout=5)


@pytest.mark.parametrize(
    "gift", ["0x12=1", HOLDER, f"{HOLDER}=", f"{HOLDER}=-1", f"{HOLDER}=0.0000001"]
)
def test_a_gift_that_cannot_be_read_starts_nothing(gift: str) -> None:
    done = CliRunner().invoke(app, ["chain", "--port", "0", "--mint", gift])
    assert done.exit_code == 2
    assert "Invalid value" in done.stderr
    assert "listens" not in done.stdout


def test_a_port_that_is_taken_is_told_in_words(free_port: int) -> None:
    with socket.create_server(("127.0.0.1", free_port)):
        done = subprocess.run(
            [*PROGRAM, "--port", str(free_port)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert done.returncode == 2
    assert "anvil ended" in done.stderr
    assert "Traceback" not in done.stderr
