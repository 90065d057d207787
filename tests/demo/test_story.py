"""The demo shows the main job, and fails when anything is off."""

import asyncio
import json
import os
import shlex
import signal
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from tallystick.demo.clients import find_clients
from tests.demo.running import CHECKOUT, Demo

_EXAMPLES = CHECKOUT / "examples" / "clients"


def _clients() -> int:
    clients = asyncio.run(find_clients())
    if clients.missing is not None and "CI" in os.environ:
        raise AssertionError(clients.missing)
    return len(clients.found)


def test_the_story_comes_out_and_is_told_to_machines_exactly(tmp_path: Path) -> None:
    count = _clients()
    with Demo(tmp_path, ("--json",)) as demo:
        printed = demo.document()
        assert demo.exit_code() == 0, demo.told
        assert demo.everybody_is_gone()
    assert printed.keys() == {"payments", "calls", "audit"}
    assert printed["audit"] == {
        "ok": True,
        "ledger_usdc": 7 * count,
        "chain_usdc": 7 * count,
    }
    assert [one["amount_usdc"] for one in printed["payments"]] == [1, 1, 5] * count
    assert [one["credits"] for one in printed["payments"]] == [10, 10, 50] * count
    assert len({one["tx"] for one in printed["payments"]}) == 3 * count
    _check_calls(printed["calls"], count)
    assert "Everything adds up." in demo.told
    # Nothing is left of the books either.
    assert not list(tmp_path.glob("tallystick-demo-*"))


def _check_calls(calls: list[dict[str, Any]], count: int) -> None:
    assert all(
        one.keys() == {"feature", "status", "charged", "remaining"} for one in calls
    )
    first = [one for one in calls if one["feature"] == "ai_analyst"][:11]
    assert [one["status"] for one in first] == [402] + [200] * 10
    assert [one["remaining"] for one in first[1:]] == list(range(9, -1, -1))
    audits = [one for one in calls if one["feature"] == "portfolio_audit"]
    assert [(one["status"], one["charged"]) for one in audits] == [
        (402, 0),
        (200, 5),
    ] * count
    refused = [one["status"] for one in calls if one["status"] in {402, 409}]
    assert refused.count(409) == 2
    assert refused.count(402) == 2 * count + 1
    # What was bought and not spent: the first wallet has made one call more.
    assert sum(one["charged"] for one in calls) == 15 * count + 1


@pytest.mark.parametrize(
    ("harm", "broken", "dollars"),
    [("entry", "I3", 1), ("transfer", "I16", 0)],
)
def test_books_that_were_tampered_with_fail_the_demo(
    tmp_path: Path, harm: str, broken: str, dollars: int
) -> None:
    with Demo(tmp_path, ("--json", "--sabotage", harm)) as demo:
        printed = demo.document()
        assert demo.exit_code() == 1
        assert demo.everybody_is_gone()
    assert printed["audit"] == {"ok": False, "ledger_usdc": dollars, "chain_usdc": 1}
    assert "StoryBroke" in printed["error"]
    assert f"{broken} " in demo.told
    assert "Everything adds up." not in demo.told


def test_what_is_kept_can_be_used_until_it_is_stopped(tmp_path: Path) -> None:
    with Demo(tmp_path, ("--keep",)) as demo:
        lines = demo.until("BUYER_KEY=")
        curl = next(line for line in lines if line.startswith("curl "))
        *_, header, url = shlex.split(curl)
        name, _, value = header.partition(": ")
        answer = httpx.get(url, headers={name: value}, trust_env=False, timeout=30)
        assert answer.status_code == 200
        assert answer.headers["credits-charged"] == "1"
        assert answer.headers["credits-remaining"] == "53"
        variable, *pay = shlex.split(lines[-1])
        paid = subprocess.run(
            pay,
            env=os.environ | {"NO_PROXY": "*", "BUYER_KEY": variable.partition("=")[2]},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        first, *others = [json.loads(line) for line in paid.splitlines()]
        # What the README says of these three calls.
        assert "has $20.00 and no credits yet" in "".join(lines)
        assert first["payment"]["amount"] == first["signed"][0]["amount"] == "1000000"
        assert first["payment"]["transaction"].startswith("0x")
        assert [one["payment"]["amount"] for one in others] == ["0", "0"]
        assert all(one["payment"]["transaction"] == "" for one in others)
        remaining = [one["headers"]["credits-remaining"] for one in (first, *others)]
        assert remaining == ["9", "8", "7"]
        told = "".join(lines)
        assert "invalid_exact_evm_payload_signature" in told
        assert "payment_already_settled" in told
        assert "No USDC moved" in told
        assert "\x1b" not in told, "plain where it is no terminal"
        demo.process.send_signal(signal.SIGINT)
        assert demo.exit_code() == 0
        assert demo.everybody_is_gone()


def test_the_clients_have_never_heard_of_us() -> None:
    for name in ("pay.py", "pay.mjs", "package.json"):
        words = (_EXAMPLES / name).read_text().lower()
        assert "tallystick" not in words.replace("@tallystick/example-clients", "")
        assert "credits" not in words


@pytest.mark.parametrize("name", ["contracts", "examples/clients"])
def test_a_lock_file_names_no_host(name: str) -> None:
    lock = (CHECKOUT / name / "package-lock.json").read_text()
    assert "://" not in lock
    assert json.loads(lock)["packages"]


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-node.lock"])
def test_requirements_are_hashed_and_name_no_host(name: str) -> None:
    lock = (CHECKOUT / name).read_text()
    assert "://" not in lock
    pinned = [line for line in lock.splitlines() if "==" in line]
    assert pinned
    assert all(line.endswith("\\") for line in pinned)
