"""The example of docs/transfers.md, run as it stands there by a sender of USDC."""

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
from eth_account.signers.local import LocalAccount

from tallystick.chain.local import LocalChain
from tests.api.payments import ON_SQLITE, address_of, count, funded
from tests.chain.payer import transfer_call
from tests.live import DOLLAR, LiveServer

PAGE = Path(__file__).parents[2] / "docs" / "transfers.md"
(PROGRAM,) = re.findall(r"```python\n(.+?)```", PAGE.read_text(), re.DOTALL)
pytestmark = ON_SQLITE


async def pasted(
    folder: Path, server: LiveServer, wallet: LocalAccount, transaction: str
) -> tuple[int, dict[str, Any]]:
    """The program's exit code and what it prints."""
    path = folder / "claim_transfer.py"
    path.write_text(PROGRAM)
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, str(path), server.url, transaction),
        cwd=folder,
        env=os.environ | {"BUYER_KEY": f"0x{bytes(wallet.key).hex()}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, said = await asyncio.wait_for(program.communicate(), 60)
    assert b"Traceback" not in said, said
    assert program.returncode is not None
    return program.returncode, json.loads(out)


async def sent(chain: LocalChain, server: LiveServer, wallet: LocalAccount) -> str:
    """The hash of a plain transfer of two dollars, in a block that is safe."""
    call = transfer_call(server.gate.rail.pay_to, 2 * DOLLAR)
    done = await chain.send(address_of(wallet), chain.token, call)
    assert done.succeeded
    await chain.mine(3)
    return f"0x{done.tx_hash.hex()}"


async def test_whoever_sent_it_gets_the_credits_by_the_program_of_the_page(
    server: LiveServer, chain: LocalChain, tmp_path: Path
) -> None:
    wallet = await funded(chain, 10)
    transaction = await sent(chain, server, wallet)
    code, told = await pasted(tmp_path, server, wallet, transaction)
    assert (code, told["added"], told["credits"]) == (0, 20, 20)
    assert json.loads(_printed(PAGE)) | {"transfer": told["transfer"]} == told
    assert told["transfer"]["transaction"] == transaction
    # Again, it tells the same and gives nothing.
    assert (await pasted(tmp_path, server, wallet, transaction))[1] == told
    assert await count(server, "credit_grant") == 1


async def test_with_another_key_the_program_gets_nothing_and_says_so(
    server: LiveServer, chain: LocalChain, tmp_path: Path
) -> None:
    wallet, other = await funded(chain, 10), await funded(chain, 10)
    transaction = await sent(chain, server, wallet)
    await server.audit()  # reads the block
    code, told = await pasted(tmp_path, server, other, transaction)
    assert (code, told["code"]) == (1, "payer_not_linked")
    assert await count(server, "redemption") == 0


async def test_the_page_asks_without_a_proof_as_the_server_answers(
    server: LiveServer,
) -> None:
    body = {"transactionId": "0x" + "ab" * 32}
    async with httpx.AsyncClient(base_url=server.url) as http:
        answer = await http.post("/api/credits/add", json=body)
    assert answer.status_code == 401
    offer = answer.json()["extensions"]["sign-in-with-x"]
    assert {"info", "supportedChains"} <= offer.keys()


def _printed(page: Path) -> str:
    (document,) = re.findall(r"```json\n(.+?)```", page.read_text(), re.DOTALL)
    return str(document)
