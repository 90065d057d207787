"""``tallystick chain`` as a program."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from tallystick.chain.local import OFFICIAL_USDC
from tallystick.chain.rpc import Chain
from tallystick.chain.token import balance_of
from tallystick.cli import app
from tests.processes import run

CLI = "from tallystick.cli import main; main()"
HOLDER = "0x00000000000000000000000000000000000000A1"
ROOT = Path(__file__).resolve().parents[2]
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


async def test_a_port_that_is_taken_is_told_in_words(
    tmp_path: Path, free_port: int
) -> None:
    with socket.create_server(("127.0.0.1", free_port)):
        done = await run("chain", "--port", str(free_port), cwd=tmp_path)
    assert done.code == 2
    assert "anvil ended" in done.err
    assert "Traceback" not in done.err


@contextlib.contextmanager
def _started(command: Sequence[str], **more: Any) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(command, text=True, **more) as process:
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)


def _blocks(chain: "subprocess.Popen[str]") -> list[str]:
    """What is to be pasted: settings with a command."""
    assert chain.stdout is not None
    told = ""
    while "never use them" not in told:
        line = chain.stdout.readline()
        assert line, told
        told += line
    return re.findall(r"^(?:export .+\n)+(?:tallystick|python) .+$", told, re.MULTILINE)


def _wait_until_it_takes_payments(
    url: str, server: "subprocess.Popen[str]", log: Path
) -> None:
    for _ in range(600):
        assert server.poll() is None, log.read_text()
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz").json().get("takes_payments"):
                return
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def test_what_it_prints_serves_and_pays_when_it_is_pasted(
    tmp_path: Path, free_port: int
) -> None:
    """A newcomer's way: three shells, two pastes, and a stock client has paid."""
    bare = {name: os.environ[name] for name in os.environ if "TALLYSTICK" not in name}
    bare["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{bare['PATH']}"
    bare["TMPDIR"] = str(tmp_path)
    # The usual port may be somebody's; the rest is as it is printed.
    url, moved = f"http://127.0.0.1:{free_port}", {"TALLYSTICK_PORT": str(free_port)}
    log = tmp_path / "server.log"
    chaining = _started(
        [*PROGRAM, "--port", "0"], cwd=tmp_path, env=bare, stdout=subprocess.PIPE
    )
    with chaining as chain, log.open("w") as words:
        to_serve, to_pay = _blocks(chain)
        pasted = to_serve.replace("tallystick serve", "exec tallystick serve")
        serving = _started(
            ["sh", "-c", pasted], cwd=tmp_path, env=bare | moved, stderr=words
        )
        with serving as server:
            _wait_until_it_takes_payments(url, server, log)
            paid = subprocess.run(
                ["sh", "-c", to_pay.replace("http://127.0.0.1:8402", url)],
                cwd=ROOT,
                env=bare,
                capture_output=True,
                text=True,
                check=False,
            )
    assert paid.returncode == 0, paid.stderr + paid.stdout
    calls = [json.loads(line) for line in paid.stdout.splitlines()]
    assert [call["status"] for call in calls] == [200, 200, 200]
    assert list(tmp_path.glob("tallystick-*.sqlite3")), "the books are where it says"
