"""Stock JavaScript clients of both versions pay, and spend their credits."""

import json
from pathlib import Path

import pytest

from tallystick.chain.local import LocalChain
from tallystick.chain.token import balance_of
from tests.api.payments import ADDRESS, ANALYST, ON_SQLITE, address_of, count, funded
from tests.conformance.node import HERE, calls, program_in
from tests.live import DOLLAR, LiveServer


@ON_SQLITE
async def test_fetch_of_version_2_pays_a_dollar_and_spends_ten_credits(
    server: LiveServer, chain: LocalChain
) -> None:
    program = program_in("node")
    wallet = await funded(chain)
    told = await calls(program, wallet, server.url + ANALYST, 11)
    assert [one["status"] for one in told] == [200] * 11
    assert {one["body"]["address"] for one in told} == {ADDRESS}
    assert [one["remaining"] for one in told] == [*"9876543210", "9"]
    assert [one["payment"]["amount"] for one in told] == [
        "1000000",
        *["0"] * 9,
        "1000000",
    ]
    assert all(one["payment"]["success"] for one in told)
    assert await balance_of(chain.chain, address_of(wallet)) == 98 * DOLLAR
    assert await count(server, "claim", "state = 'waived'") == 9


@ON_SQLITE
async def test_fetch_of_version_1_pays_ten_cents_a_call_within_its_cap(
    server: LiveServer, chain: LocalChain
) -> None:
    """Its default cap is $0.10, which is what an analyst's report costs."""
    program = program_in("node-v1")
    wallet = await funded(chain)
    told = await calls(program, wallet, server.url + ANALYST, 2)
    assert [one["status"] for one in told] == [200, 200]
    assert [one["charged"] for one in told] == ["1", "1"]
    assert all(one["payment"]["success"] for one in told)
    assert all(one["payment"]["transaction"].startswith("0x") for one in told)
    assert {one["payment"]["network"] for one in told} == {"base-sepolia"}
    paid = 100 * DOLLAR - await balance_of(chain.chain, address_of(wallet))
    assert paid == 200_000
    assert await count(server, "relayed_transaction") == 2


@ON_SQLITE
async def test_fetch_of_version_1_spends_credits_that_are_there(
    server: LiveServer, chain: LocalChain
) -> None:
    """Bought by version 2, spent by version 1: the wallet is what counts."""
    v2, v1 = program_in("node"), program_in("node-v1")
    wallet = await funded(chain)
    await calls(v2, wallet, server.url + ANALYST, 1)
    [told] = await calls(v1, wallet, server.url + ANALYST, 1)
    assert (told["status"], told["remaining"]) == (200, "8")
    assert told["payment"]["transaction"] == ""
    assert await balance_of(chain.chain, address_of(wallet)) == 99 * DOLLAR


@ON_SQLITE
@pytest.mark.parametrize("folder", ["node", "node-v1"])
async def test_a_client_without_money_is_told_so_and_pays_nothing(
    server: LiveServer, chain: LocalChain, folder: str
) -> None:
    program = program_in(folder)
    wallet = await funded(chain, 0)
    [told] = await calls(program, wallet, server.url + ANALYST, 1)
    assert told["status"] == 402
    assert told["body"]["error"] == "insufficient_funds"
    assert told["payment"] is None
    assert await count(server, "relayed_transaction") == 0
    assert await count(server, "usage_event") == 0


@pytest.mark.parametrize("folder", ["node", "node-v1"])
def test_a_lock_file_names_no_host_and_every_version_exactly(folder: str) -> None:
    wanted = _read(HERE / folder / "package.json")
    locked = _read(HERE / folder / "package-lock.json")["packages"]
    for name, version in wanted["dependencies"].items():
        assert locked[f"node_modules/{name}"]["version"] == version
    others = [one for path, one in locked.items() if path]
    assert all("resolved" not in one for one in others)
    assert all(one["integrity"].startswith("sha512-") for one in others)


def _read(path: Path) -> dict[str, dict[str, dict[str, str]]]:
    found: dict[str, dict[str, dict[str, str]]] = json.loads(path.read_text())
    return found
