"""``tallystick doctor``: what it says of a sound installation and of each broken part."""

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from tallystick.catalog.load import load_catalog
from tallystick.chain import abi
from tallystick.chain.deployment import MULTICALL3
from tallystick.chain.fault import Delay, ErrorAnswer, FaultProxy, Rewrite, Stale
from tallystick.chain.local import KEYS, OWNER, LocalChain, artifact
from tallystick.chain.permit2 import EXACT_PROXY
from tallystick.doctor.findings import Examination, Verdict
from tallystick.doctor.offers import Expected
from tallystick.doctor.server import Visit, examine_server
from tallystick.kernel.money import UsdcAtomic
from tests.doctor.mangling import Mangling, mangled
from tests.live import make_settings, start_server
from tests.postgres import PostgresServer
from tests.processes import Ended, Program, ServerProcess, run, serving
from tests.test_cli import KEY, PASSWORD, SECRET, settings_for

USDC = "0x036CbD53842c5426634e7929541eC2318f3dCF7e"
Found = list[dict[str, Any]]


async def doctor(
    folder: Path, settings: dict[str, str], *arguments: str, code: int
) -> Found:
    """What it found; its exit code must be this one, and nothing secret may be said."""
    ended = await run("doctor", "--json", *arguments, cwd=folder, **settings)
    assert ended.code == code, ended.said
    require_silence(ended)
    report = json.loads(ended.out)
    assert report["ok"] is (code == 0)
    findings: Found = report["findings"]
    for one in findings:
        assert (one["next_step"] is None) is (one["verdict"] == "ok"), one
    return findings


def require_silence(ended: Ended) -> None:
    assert "Traceback" not in ended.said, ended.said
    for secret in (SECRET, KEY[2:], PASSWORD):
        assert secret not in ended.said


def worse(findings: Found) -> list[tuple[str, str]]:
    """Check and words of all that is not well."""
    return [(one["check"], one["said"]) for one in findings if one["verdict"] != "ok"]


def the_problem(findings: Found, check: str) -> tuple[str, str]:
    """The words and the remedy of the one problem, which is of this check."""
    problems = [one for one in findings if one["verdict"] == "problem"]
    assert [one["check"] for one in problems] == [check], problems
    return problems[0]["said"], problems[0]["next_step"]


@pytest.fixture
async def fresh(punctual: LocalChain) -> LocalChain:
    """A chain whose newest block is of now."""
    await punctual.mine(3)
    return punctual


async def test_a_sound_installation_is_well(fresh: LocalChain, tmp_path: Path) -> None:
    settings = settings_for(fresh, tmp_path)
    async with serving(tmp_path, **settings):
        await fresh.mine()
        findings = await doctor(tmp_path, settings, code=0)
    loopback = f"PUBLIC_URL {settings['PUBLIC_URL']} is reached from this machine only"
    assert worse(findings) == [("public url", loopback)]
    assert {one["check"] for one in findings} == {
        *("settings", "catalog", "database", "rpc", "clock", "asset", "pay-to"),
        *("relayer", "books", "paybacks", "public url", "server", "browsers"),
        "challenge",
    }
    challenges = [one["said"] for one in findings if one["check"] == "challenge"]
    assert [one.rpartition(" is a 402")[0] for one in challenges] == [
        "POST /api/credits/add",
        "GET /features/ai_analyst",
        "POST /features/ai_analyst",
        "GET /features/portfolio_audit",
        "POST /features/portfolio_audit",
    ]


async def test_it_says_in_words_what_to_do_and_changes_nothing(
    fresh: LocalChain, tmp_path: Path
) -> None:
    settings = settings_for(
        fresh, tmp_path, RELAYER_KEYS=Account.create().key.to_0x_hex()
    )
    await run("migrate", cwd=tmp_path, **settings)
    before = dump(tmp_path / "tallystick.sqlite3")
    ended = await run("doctor", cwd=tmp_path, **settings)
    assert ended.code == 1
    require_silence(ended)
    assert "→ Send at least" in ended.out
    assert "→ Start it with `tallystick serve`" in ended.out
    assert ended.out.endswith("2 problems, 1 warning.\n")
    assert dump(tmp_path / "tallystick.sqlite3") == before


def dump(path: Path) -> list[str]:
    with sqlite3.connect(path) as connection:
        lines = list(connection.iterdump())
    connection.close()
    return lines


async def test_each_line_is_there_before_the_next_answer(
    fresh: LocalChain, tmp_path: Path
) -> None:
    """A node that never answers does not hide what is known already."""
    async with FaultProxy(fresh.url) as proxy:
        proxy.inject("eth_chainId", Delay(seconds=3))
        settings = settings_for(fresh, tmp_path, RPC_URLS=proxy.url)
        program = Program(("doctor", "--no-server"), settings, tmp_path)
        async with asyncio.timeout(30):
            while "no database at" not in program.output("out"):
                assert program.process.is_alive()
                await asyncio.sleep(0.05)
        assert "node 1" not in program.output("out")
        ended = await program.end()
    assert "node 1 (127.0.0.1) answers, chain 84532" in ended.out
    assert ended.code == 0, ended.said


async def test_settings_that_are_missing_and_unreadable_are_told(
    tmp_path: Path,
) -> None:
    nothing = await doctor(tmp_path, {}, "--no-server", code=1)
    told = [one["next_step"] for one in nothing if one["check"] == "settings"]
    assert any("TALLYSTICK_PAY_TO" in step for step in told)
    assert any("`tallystick secret`" in step for step in told)
    ((check, said),) = worse(
        await doctor(tmp_path, {"SETTLE_WAIT": "soon", "SECRET_KEY": SECRET}, code=1)
    )
    assert (check, "SETTLE_WAIT" in said) == ("settings", True)


async def test_a_catalog_that_is_missing_is_a_problem(
    fresh: LocalChain, tmp_path: Path
) -> None:
    settings = settings_for(fresh, tmp_path, CATALOG=str(tmp_path / "none.toml"))
    found = await doctor(tmp_path, settings, "--no-server", code=1)
    assert "none.toml" in the_problem(found, "catalog")[0]


async def test_databases_that_cannot_be_used_are_told(
    fresh: LocalChain, postgres: PostgresServer, tmp_path: Path
) -> None:
    empty = await postgres.create_database(template="template0")
    migrated = await postgres.create_database()
    nowhere = f"postgresql+asyncpg://user:{PASSWORD}@127.0.0.1:1/name"

    async def with_database(url: str, code: int) -> Found:
        settings = settings_for(fresh, tmp_path, DATABASE_URL=url)
        return await doctor(tmp_path, settings, "--no-server", code=code)

    said, step = the_problem(await with_database(nowhere, 1), "database")
    assert "cannot be used" in said
    assert step.startswith("Check DATABASE_URL")
    said, step = the_problem(await with_database(postgres.url(empty), 1), "database")
    assert step == "Run `tallystick migrate` first."
    found = await with_database(postgres.url(migrated), 0)
    (clock,) = [one for one in found if one["check"] == "database clock"]
    assert clock["said"] == "the database's clock is 0.0 s off this machine's"


async def test_each_node_is_asked_by_itself(fresh: LocalChain, tmp_path: Path) -> None:
    """Five that fail in their own ways; the one that is well hides none of them."""

    proxies = [FaultProxy(fresh.url) for _ in range(4)]
    wrong, logless, infinite, limited = proxies
    wrong.inject("eth_chainId", Rewrite(change=lambda _: "0x1"))
    logless.inject("eth_getLogs", ErrorAnswer(code=-32601, message="no such method"))
    infinite.inject("eth_getBlockByNumber", Rewrite(change=lambda _: None))
    limited.inject("eth_getBlockByNumber", ErrorAnswer(code=429, message=SECRET))
    for one in proxies:
        await one.start()
    try:
        dead = "http://127.0.0.1:1/v2/" + "k" * 24
        urls = [fresh.url, *(one.url for one in proxies), dead]
        settings = settings_for(fresh, tmp_path, RPC_URLS=",".join(urls))
        ended = await run("doctor", "--no-server", cwd=tmp_path, **settings)
    finally:
        for one in proxies:
            await one.stop()
    assert ended.code == 1
    require_silence(ended)
    assert "k" * 24 not in ended.said
    told = [line for line in ended.out.splitlines() if line.startswith("problem")]
    assert len(told) == 5, ended.out
    assert "node 2 (127.0.0.1) is a node of chain 1, not of 84532" in told[0]
    assert "node 3 (127.0.0.1) serves no logs" in told[1]
    assert "node 4 (127.0.0.1) names no newest block" in told[2]
    assert "node 5 (127.0.0.1): the node did not serve eth_getBlock" in told[3]
    assert "node 6 (127.0.0.1): no answer to eth_chainId" in told[4]


async def test_a_node_without_finality_and_one_that_lags_are_warned_of(
    fresh: LocalChain, tmp_path: Path
) -> None:
    await fresh.mine(30)
    head = await fresh.chain.block("latest")
    assert head is not None

    def not_final(block: Any) -> Any:
        return block if int(block["number"], 16) >= head.number else None

    async with FaultProxy(fresh.url) as endless, FaultProxy(fresh.url) as late:
        endless.inject("eth_getBlockByNumber", Rewrite(change=not_final))
        late.inject("*", Stale(blocks=20))
        urls = f"{endless.url},{late.url}"
        settings = settings_for(fresh, tmp_path, RPC_URLS=urls)
        found = await doctor(tmp_path, settings, "--no-server", code=0)
    told = [said for check, said in worse(found) if check == "rpc"]
    assert told == [
        "node 1 (127.0.0.1) names no finalized block",
        "node 2 (127.0.0.1) names no finalized block",
        "node 2 (127.0.0.1) is 20 blocks behind node 1 (127.0.0.1)",
    ]


@pytest.mark.parametrize(
    ("seconds", "verdict", "words"),
    [
        (-3600, "warning", "old by this machine's clock"),
        (3600, "problem", "this machine's clock is at least 3"),
    ],
)
async def test_a_clock_that_is_off_is_told(
    fresh: LocalChain, tmp_path: Path, seconds: int, verdict: str, words: str
) -> None:
    """The chain's time is moved, which looks the same from here."""

    def moved(block: Any) -> Any:
        return block | {"timestamp": hex(int(block["timestamp"], 16) + seconds)}

    async with FaultProxy(fresh.url) as proxy:
        proxy.inject("eth_getBlockByNumber", Rewrite(change=moved))
        settings = settings_for(fresh, tmp_path, RPC_URLS=proxy.url)
        code = 1 if verdict == "problem" else 0
        found = await doctor(tmp_path, settings, "--no-server", code=code)
    (clock,) = [one for one in found if one["check"] == "clock"]
    assert clock["verdict"] == verdict
    assert words in clock["said"]


async def test_a_token_that_is_none_is_a_problem(
    fresh: LocalChain, tmp_path: Path
) -> None:
    settings = settings_for(fresh, tmp_path, ASSET="0x" + "0e" * 20)
    found = await doctor(tmp_path, settings, "--no-server", code=1)
    problems = [one["check"] for one in found if one["verdict"] == "problem"]
    assert "asset" in problems


async def test_a_payee_that_the_token_refuses_is_a_problem(
    fresh: LocalChain, tmp_path: Path
) -> None:
    settings = settings_for(fresh, tmp_path)
    payee = bytes.fromhex(settings["PAY_TO"][2:])
    call = abi.selector("blacklist(address)") + abi.word(payee)
    await fresh.send(OWNER, fresh.token, call)
    found = await doctor(tmp_path, settings, "--no-server", code=1)
    said, step = the_problem(found, "pay-to")
    assert "refuses a transfer" in said
    assert "Set PAY_TO" in step


async def test_a_payee_that_is_a_relayer_or_a_contract_is_told(
    fresh: LocalChain, tmp_path: Path
) -> None:
    relayer = Account.from_key(KEYS[2]).address
    settings = settings_for(fresh, tmp_path, PAY_TO=relayer)
    found = await doctor(tmp_path, settings, "--no-server", code=0)
    assert any("takes the income" in said for _, said in worse(found))
    safe = Account.create().address
    await fresh.plant(bytes.fromhex(safe[2:]), b"\x00")
    settings = settings_for(fresh, tmp_path, PAY_TO=safe)
    found = await doctor(tmp_path, settings, "--no-server", code=0)
    (payee,) = [one for one in found if one["check"] == "pay-to"]
    assert "a contract, which must be able to send it on" in payee["said"]


async def test_relayers_without_gas_are_a_problem_once_none_is_left(
    fresh: LocalChain, tmp_path: Path
) -> None:
    poor = [Account.create() for _ in range(2)]
    names = [one.address for one in poor]
    keys = [one.key.to_0x_hex() for one in poor]

    async def with_keys(*given: str, code: int) -> Found:
        settings = settings_for(fresh, tmp_path, RELAYER_KEYS=",".join(given))
        found = await doctor(tmp_path, settings, "--no-server", code=code)
        return [one for one in found if one["check"] == "relayer"]

    one_left = await with_keys(keys[0], KEY, code=0)
    assert [one["verdict"] for one in one_left] == ["warning", "ok"]
    assert names[0] in one_left[0]["said"]
    assert "Send at least 0." in one_left[0]["next_step"]
    none_left = await with_keys(*keys, code=1)
    assert [one["verdict"] for one in none_left] == ["problem", "problem"]


async def test_a_deployer_needs_ether_and_should_have_nothing_else(
    fresh: LocalChain, tmp_path: Path
) -> None:
    deployer = Account.create()
    address = bytes.fromhex(deployer.address[2:])
    settings = settings_for(
        fresh,
        tmp_path,
        DEPLOYER_KEY=deployer.key.to_0x_hex(),
        WALLET_FACTORIES="0x" + "fa" * 20 + ":0x3ffba36f",
    )

    async def found(code: int) -> list[tuple[str, str]]:
        all_of_it = await doctor(tmp_path, settings, "--no-server", code=code)
        ours = [one for one in all_of_it if one["check"] == "deployer"]
        return [(one["verdict"], one["said"]) for one in ours]

    await fresh.plant(MULTICALL3, b"")
    ((verdict, said),) = await found(code=1)
    assert (verdict, "no Multicall3" in said) == ("problem", True)
    await fresh.plant(MULTICALL3, artifact("Multicall"))
    ((verdict, said),) = await found(code=1)
    assert (verdict, "0 ether for gas and needs" in said) == ("problem", True)
    await fresh.give_gas(address)
    await fresh.mint(address, UsdcAtomic(1_500_000))
    (_, gas), (verdict, said) = await found(code=0)
    assert "1.000000000 ether for gas" in gas
    assert (verdict, "1.5 dollars" in said) == ("warning", True)


async def test_payments_by_permit2_need_its_contracts(
    fresh: LocalChain, tmp_path: Path
) -> None:
    settings = settings_for(fresh, tmp_path, PERMIT2="true")
    async with serving(tmp_path, **settings):
        await fresh.mine()
        findings = await doctor(tmp_path, settings, code=0)
    assert {one["verdict"] for one in findings if one["check"] == "challenge"} == {"ok"}
    (found,) = [one for one in findings if one["check"] == "permit2"]
    assert found["verdict"] == "ok"
    await fresh.plant(EXACT_PROXY, artifact("Multicall"))
    try:
        findings = await doctor(tmp_path, settings, "--no-server", code=1)
    finally:  # other tests share the chain
        await fresh.plant(EXACT_PROXY, artifact("ExactProxy"))
    (found,) = [one for one in findings if one["check"] == "permit2"]
    assert found["verdict"] == "problem"
    assert "no x402ExactPermit2Proxy" in found["said"]


async def test_books_of_another_chain_are_a_problem(tmp_path: Path) -> None:
    async with LocalChain() as first:
        await first.mine(5)
        settings = settings_for(first, tmp_path)
        async with serving(tmp_path, **settings):
            await first.mine(5)
            await asyncio.sleep(7)  # the confirmer looks every five seconds
    async with LocalChain() as second:
        other = settings | {"RPC_URLS": second.url}
        found = await doctor(tmp_path, other, "--no-server", code=1)
    said, step = the_problem(found, "books")
    assert "was final when these books were written" in said
    assert step.startswith("The operator must point RPC_URLS")


@pytest.mark.parametrize(
    ("url", "code", "words"),
    [
        ("https://api.example.com", 0, "offers and sign-ins name"),
        ("http://api.example.com", 1, "is not https"),
    ],
)
async def test_a_public_url_must_be_https(
    fresh: LocalChain, tmp_path: Path, url: str, code: int, words: str
) -> None:
    settings = settings_for(fresh, tmp_path, PUBLIC_URL=url)
    found = await doctor(tmp_path, settings, "--no-server", code=code)
    (public,) = [one for one in found if one["check"] == "public url"]
    assert words in public["said"]


@pytest.fixture
async def sound(fresh: LocalChain, tmp_path: Path) -> Any:
    async with serving(tmp_path, **settings_for(fresh, tmp_path)) as server:
        yield server


SPOILS: dict[str, tuple[Mangling, str]] = {
    "no header": (Mangling(drop="payment-required"), "has no PAYMENT-REQUIRED"),
    "junk": (Mangling(header="payment-required", value="e30!"), "no base64 of JSON"),
    "another payee": (
        Mangling(path="accepts.0.payTo", to="0x" + "12" * 20, version=2),
        "accepts[0]: payTo is not",
    ),
    "a float": (
        Mangling(path="accepts.0.amount", to=1.5, version=2),
        "amount is no number of atomic units",
    ),
    "a v1 network name": (
        Mangling(path="accepts.0.network", to="base-sepolia", version=2),
        "network is not eip155:84532",
    ),
    "a wrong domain": (
        Mangling(path="accepts.0.extra.name", to="USD Coin", version=2),
        "does not name the token's EIP-712 domain",
    ),
    "another host": (
        Mangling(path="resource.url", to="https://evil.test/", version=2),
        "url is not below PUBLIC_URL",
    ),
    "one more member": (
        Mangling(path="accepts.0.price", to="1", version=2),
        "price is no member of the protocol",
    ),
    "an endless description": (
        Mangling(path="resource.description", to="x" * 9000, version=2),
        "more than is read",
    ),
    "a v1 amount": (
        Mangling(path="accepts.0.maxAmountRequired", to="010", version=1),
        "maxAmountRequired is no number",
    ),
    "a v1 version": (Mangling(path="x402Version", to=2, version=1), "is not 1"),
    "no offers": (Mangling(path="accepts", to=[], version=1), "is no list of offers"),
    "a v1 price of its own": (
        Mangling(path="accepts.0.maxAmountRequired", to="7", version=1),
        "offer other amounts",
    ),
    "a v1 resource of its own": (
        Mangling(path="accepts.0.resource", to="https://evil.test/", version=1),
        "name other resources",
    ),
    "another status": (Mangling(status=200), "answered with 200 instead of 402"),
    "a cache": (Mangling(drop="cache-control"), "caches may keep it"),
}


def expected_at(url: str, payee: str) -> Expected:
    return Expected(
        caip2="eip155:84532",
        v1_name="base-sepolia",
        asset=USDC,
        pay_to=payee,
        domain={"name": "USDC", "version": "2"},
        url=url,
    )


async def test_every_spoilt_challenge_is_noticed(
    sound: ServerProcess, tmp_path: Path
) -> None:
    expected = expected_at(sound.url, sound.settings["PAY_TO"])
    catalog = load_catalog("x402_credits")
    for name, (spoil, words) in {"nothing": (Mangling(), ""), **SPOILS}.items():
        async with mangled(sound.url, spoil) as url:
            exam = Examination(lambda _: None, lambda _: None)
            visit = Visit(url, takes_payments=True, catalog=catalog, expected=expected)
            await examine_server(exam, visit)
        told = [one.said for one in exam.findings if one.verdict == Verdict.PROBLEM]
        assert any(words in one for one in told) is (name != "nothing"), (name, told)
    async with mangled(sound.url, SPOILS["a cache"][0]) as url:
        found = await doctor(tmp_path, sound.settings, "--url", url, code=1)
    assert sum("caches may keep it" in said for _, said in worse(found)) == 5


async def test_headers_that_a_proxy_hides_from_browsers_are_warned_of(
    sound: ServerProcess, tmp_path: Path
) -> None:
    hidden = Mangling(drop="access-control-expose-headers")
    async with mangled(sound.url, hidden) as url:
        found = await doctor(tmp_path, sound.settings, "--url", url, code=0)
    assert any("may not read payment-required" in said for _, said in worse(found))
    shut = Mangling(drop="access-control-allow-headers")
    async with mangled(sound.url, shut) as url:
        found = await doctor(tmp_path, sound.settings, "--url", url, code=0)
    assert any("may not send payment-signature" in said for _, said in worse(found))


async def test_another_program_and_another_catalog_are_noticed(
    sound: ServerProcess, tmp_path: Path
) -> None:
    away = Mangling(status=302)
    async with mangled(sound.url, away) as url:
        found = await doctor(tmp_path, sound.settings, "--url", url, code=1)
    assert the_problem(found, "server")[0] == "/livez is answered with 302"
    shop = str(Path(__file__).parents[1] / "api" / "shop.toml")
    other = sound.settings | {"CATALOG": shop}
    ended = await run("doctor", "--json", cwd=tmp_path, **other)
    told = [one["said"] for one in json.loads(ended.out)["findings"]]
    assert "it runs with another catalog than these settings name" in told


async def test_a_float_that_cannot_pay_is_told(
    fresh: LocalChain, tmp_path: Path
) -> None:
    key = Account.create()
    settings = settings_for(fresh, tmp_path, PAYBACK_KEY=key.key.to_0x_hex())

    async def told() -> dict[str, Any]:
        found = await doctor(tmp_path, settings, "--no-server", code=0)
        (line,) = [one for one in found if one["check"] == "float"]
        return line

    address = bytes.fromhex(key.address[2:])
    assert "ether to it" in (await told())["next_step"]
    await fresh.give_gas(address)
    assert "$0.00 to pay back" in (await told())["said"]
    await fresh.mint(address, UsdcAtomic(2_000_000))
    assert (await told())["verdict"] == "ok"


async def test_a_server_that_sells_nothing_for_want_of_gas_has_no_broken_challenge(
    fresh: LocalChain, sqlite_url: str, free_port: int
) -> None:
    """What it refuses is told by its cause; its 402s are those of a sound one."""
    poor = Account.create().key.to_0x_hex()
    settings = make_settings(sqlite_url, fresh.url, free_port, relayer_keys=(poor,))
    server = await start_server(settings)
    assert settings.pay_to is not None
    try:
        exam = Examination(lambda _: None, lambda _: None)
        catalog = load_catalog("x402_credits")
        expected = expected_at(server.url, settings.pay_to)
        await examine_server(
            exam,
            Visit(server.url, takes_payments=True, catalog=catalog, expected=expected),
        )
    finally:
        await server.stop()
    told = [(one.verdict, one.said) for one in exam.findings]
    assert [said for verdict, said in told if verdict == Verdict.PROBLEM] == []
    assert [said for verdict, said in told if verdict == Verdict.WARNING] == [
        "it takes no payments now: no relayer has money for gas",
        "POST /api/credits/add offers nothing, because no payment can be settled now",
    ]


async def test_relayer_keys_beside_a_facilitator_that_settles_everything_are_told(
    fresh: LocalChain, tmp_path: Path
) -> None:
    settings = settings_for(fresh, tmp_path, FACILITATOR_URL="http://127.0.0.1:1")
    found = await doctor(tmp_path, settings, "--no-server", code=0)
    (idle,) = [one for one in found if one["said"].startswith("RELAYER_KEYS")]
    assert (idle["check"], idle["verdict"]) == ("settings", "warning")
    assert idle["next_step"].startswith("Set FACILITATOR_FALLBACK=true")
    for more in ({"FACILITATOR_FALLBACK": "true"}, {"ACT_AS_FACILITATOR": "true"}):
        found = await doctor(tmp_path, settings | more, "--no-server", code=0)
        assert not [one for one in found if one["said"].startswith("RELAYER_KEYS")]
