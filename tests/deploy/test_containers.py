"""The container files, by their schema, a linter and what the checkout holds.

No container is built here: these are the mistakes that can be seen without one.
"""

import asyncio
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tallystick.chain.anvil import AnvilProcess, find_anvil
from tallystick.chain.local import LocalChain
from tallystick.chain.well_known import WELL_KNOWN_SECRET
from tallystick.config import Settings
from tallystick.demo.ports import free_port
from tallystick.safe_settings import UnsafeSettings, check_settings
from tests.processes import Program, environment, run, serving

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(sys.executable).parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = YAML(typ="safe").load(ROOT / "docker-compose.yml")
LOCKS = ("requirements-server.lock", "requirements-build.lock")


def _run(*command: str) -> str:
    done = subprocess.run(
        [PROGRAMS / command[0], *command[1:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def _copied() -> list[str]:
    """What the Dockerfile takes out of the checkout."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


def _pins(lock: str) -> dict[str, str]:
    """The packages of a lock, each with its version, condition and hashes."""
    entries = re.split(r"\n(?=\w)", (ROOT / lock).read_text().strip())
    return {re.split("[= ]", entry)[0]: entry for entry in entries}


def test_compose_follows_its_schema() -> None:
    schema = ("--builtin-schema", "vendor.compose-spec")
    assert _run("check-jsonschema", *schema, "docker-compose.yml") == ""


def test_the_dockerfile_has_no_lint() -> None:
    assert _run("hadolint", "Dockerfile") == ""


def test_every_setting_that_the_containers_name_exists() -> None:
    files = [".env.example", ".env.local-chain", "docker-compose.yml"]
    text = "".join((ROOT / name).read_text() for name in files)
    text += DOCKERFILE.partition("AS server")[2]
    named = set(re.findall(r"TALLYSTICK_(\w+)", text))
    assert len(named) > 5
    assert named - {name.upper() for name in Settings.model_fields} == set()


def _set_in(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and line[0] != "#")


def test_the_example_environment_holds_no_secret() -> None:
    set_here = _set_in(".env.example")
    secret = {"POSTGRES_PASSWORD", "TALLYSTICK_SECRET_KEY", "TALLYSTICK_RELAYER_KEYS"}
    assert {name for name in secret if set_here[name]} == set()


def test_the_local_chains_environment_is_whole_and_refused_on_a_real_chain() -> None:
    given = _set_in(".env.local-chain")
    assert set(given) == set(_set_in(".env.example"))
    assert all(given.values())
    assert given["TALLYSTICK_SECRET_KEY"] == WELL_KNOWN_SECRET
    values = {
        name.removeprefix("TALLYSTICK_").lower(): value
        for name, value in given.items()
        if name.startswith("TALLYSTICK_")
    }
    check_settings(Settings(**values), is_serving=True)
    with pytest.raises(UnsafeSettings) as refusal:
        check_settings(Settings(**values | {"network": "eip155:8453"}))
    assert len(refusal.value.problems) == 3


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_the_local_chains_environment_serves_a_stock_client_at_once(
    tmp_path: Path, empty_url: str
) -> None:
    """What the containers run, as programs: chain, migrate, serve, and a payment."""
    given = _set_in(".env.local-chain")
    port, chain_port = free_port(), free_port()
    # Other places than in the containers; everything else is as it is given.
    settings = {
        name.removeprefix("TALLYSTICK_"): value.replace(
            "http://chain:8545", f"http://127.0.0.1:{chain_port}"
        )
        for name, value in given.items()
        if name.startswith("TALLYSTICK_")
    } | {
        "DATABASE_URL": empty_url,
        "PORT": str(port),
        "PUBLIC_URL": f"http://127.0.0.1:{port}",
    }
    chain = Program(("chain", "--port", str(chain_port)), {}, tmp_path)
    try:
        async with asyncio.timeout(60):
            while "never use them" not in chain.output("out"):
                assert chain.process.is_alive(), chain.output("err")
                await asyncio.sleep(0.05)
        migrated = await run("migrate", cwd=tmp_path, **settings)
        assert migrated.code == 0, migrated.said
        async with serving(tmp_path, **settings) as server:
            buyer = re.findall(
                r"^export (BUYER_KEY)=(\w+)$", chain.output("out"), re.MULTILINE
            )
            call = f"{server.url}/features/ai_analyst?address=0x{'11' * 20}"
            paid = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "examples/clients/pay.py", call],
                cwd=ROOT,
                env=environment({}) | dict(buyer),
                capture_output=True,
                text=True,
                check=False,
            )
            assert paid.returncode == 0, paid.stderr + paid.stdout
            assert json.loads(paid.stdout)["status"] == 200
    finally:
        await chain.end(signal.SIGTERM)


def test_everything_that_is_copied_exists_and_is_let_through() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    let_through = {line[1:] for line in ignored if line.startswith("!")}
    assert len(_copied()) > 5
    assert [one for one in _copied() if not (ROOT / one).exists()] == []
    assert set(_copied()) == let_through


def test_what_is_installed_is_what_is_tested() -> None:
    tested = _pins("requirements.lock")
    for lock in LOCKS:
        pins = _pins(lock)
        assert len(pins) >= 5
        assert {name for name in pins if pins[name] != tested.get(name)} == set()
        assert all("--hash=sha256:" in entry for entry in pins.values())
        assert "://" not in (ROOT / lock).read_text()


def test_the_server_image_gets_no_tools_of_developers() -> None:
    server, build = (_pins(lock) for lock in LOCKS)
    assert {"pytest", "ruff", "mypy", "x402", "hatchling"} & set(server) == set()
    assert "uvicorn" in server
    assert "hatchling" in build


def test_services_run_with_little() -> None:
    for name in ("migrate", "server", "chain"):
        service = COMPOSE["services"][name]
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["build"]["target"] in re.findall(r" AS (\w+)", DOCKERFILE)
    assert "USER 10001:10001" in DOCKERFILE
    assert COMPOSE["services"]["chain"]["profiles"] == ["local-chain"]
    ports = [
        port for one in COMPOSE["services"].values() for port in one.get("ports", ())
    ]
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_schema_is_made_before_the_server_starts() -> None:
    services = COMPOSE["services"]
    assert services["postgres"]["healthcheck"]["test"]
    assert services["migrate"]["depends_on"]["postgres"] == {
        "condition": "service_healthy"
    }
    assert services["server"]["depends_on"]["migrate"] == {
        "condition": "service_completed_successfully"
    }
    assert services["server"]["depends_on"]["chain"] == {
        "condition": "service_healthy",
        "required": False,
    }


def test_the_chain_is_healthy_once_its_dollar_is_there(
    shared_chain: LocalChain,
) -> None:
    """The very words of the Compose file, in a Python that has nothing installed."""
    kind, program, *words = COMPOSE["services"]["chain"]["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "python")
    bare = AnvilProcess(find_anvil(), ["--chain-id=84532"])
    bare.start()
    try:
        while (port := bare.port()) is None:
            time.sleep(0.01)
        for url, is_healthy in (
            (shared_chain.url, True),
            (f"http://127.0.0.1:{port}", False),
        ):
            check = [one.replace("http://127.0.0.1:8545", url) for one in words]
            assert check != words
            command = [sys.executable, "-I", "-S", *check]
            done = subprocess.run(command, capture_output=True, check=False)
            assert (done.returncode == 0) is is_healthy, done.stderr
    finally:
        bare.kill()
