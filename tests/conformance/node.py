"""Stock JavaScript clients, each in a folder with its packages and a small program."""

import asyncio
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from eth_account.signers.local import LocalAccount

HERE = Path(__file__).parent
_SECONDS = 90


def program_in(folder: str) -> Path:
    """The folder's program. Skips the test without node or its packages, unless in CI."""
    packages = HERE / folder / "node_modules"
    missing = None
    if shutil.which("node") is None:
        missing = "there is no node: install Node 20"
    elif not packages.is_dir():
        missing = f"run `npm ci --ignore-scripts` in tests/conformance/{folder}"
    if missing is not None and os.environ.get("CI"):
        pytest.fail(missing)
    if missing is not None:
        pytest.skip(missing)
    return HERE / folder / "pay.mjs"


async def calls(
    program: Path, wallet: LocalAccount, url: str, times: int, *, method: str = ""
) -> list[dict[str, Any]]:
    """What the client got, call by call; ``method`` is how alone it may pay."""
    node = shutil.which("node")
    assert node is not None
    child = await asyncio.create_subprocess_exec(
        *(node, str(program), url, str(times)),
        env={
            **os.environ,
            "BUYER_KEY": "0x" + bytes(wallet.key).hex(),
            "METHOD": method,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_SECONDS):
            told, complaints = await child.communicate()
    except TimeoutError:
        child.kill()
        await child.wait()
        raise
    assert child.returncode == 0, complaints.decode()
    return [json.loads(line) for line in told.splitlines()]
