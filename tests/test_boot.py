"""The server does not start on what is unsafe, and says what to do instead."""

import base64
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from Crypto.PublicKey import ECC
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import inspect, text

from tallystick.boot import (
    check_address,
    check_database,
    check_multicall,
    check_token,
)
from tallystick.chain.deployment import MULTICALL3
from tallystick.chain.errors import TokenUnreadable, WrongChain
from tallystick.chain.fault import FaultProxy, Rewrite
from tallystick.chain.local import ADDRESSES, KEYS, LocalChain, artifact
from tallystick.chain.rpc import Chain
from tallystick.config import Settings
from tallystick.kernel.crash_points import VARIABLE, CrashPoint
from tallystick.kernel.db import open_database
from tallystick.running import open_storage, own_file
from tallystick.safe_settings import UnsafeSettings, check_database_url, check_settings
from tallystick.x402.networks import NETWORKS
from tallystick.x402.wire import TokenDomain
from tests.postgres import PostgresServer

PAY_TO = Account.create().address
KEY = Account.create().key.to_0x_hex()
FLOAT = Account.create().key.to_0x_hex()
KEYS_ADDRESS = Account.from_key(KEY).address
USDC = "0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"
"""Of Base."""
SECRET = "s" * 32


def settings(**values: Any) -> Settings:
    """Settings that are safe, with some of them replaced."""
    safe: dict[str, Any] = {
        "network": "eip155:8453",
        "pay_to": PAY_TO,
        "rpc_urls": ("https://node.example.com",),
        "relayer_keys": (KEY,),
        "secret_key": SECRET,
    }
    return Settings(**(safe | values))


def refusals(**values: Any) -> list[str]:
    with pytest.raises(UnsafeSettings) as refusal:
        check_settings(settings(**values))
    return refusal.value.problems


FACILITATOR = "https://facilitator.example.com"
CDP_SECRET = base64.b64encode(ECC.generate(curve="Ed25519").seed).decode()
CDP = {"facilitator_cdp_key_id": "id", "facilitator_cdp_key_secret": CDP_SECRET}


@pytest.mark.parametrize(
    "values",
    [
        {"relayer_keys": (), "facilitator_url": FACILITATOR},
        {"relayer_keys": (), "facilitator_url": FACILITATOR, **CDP},
        {"facilitator_url": FACILITATOR, "facilitator_fallback": True},
        {"relayer_keys": (), "facilitator_url": "http://127.0.0.1:4021"},
    ],
)
def test_a_facilitator_is_enough_to_take_payments(values: dict[str, Any]) -> None:
    check_settings(settings(**values), is_serving=True)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"facilitator_url": "http://facilitator.example.com"}, "FACILITATOR_URL is"),
        ({"facilitator_url": ""}, "FACILITATOR_URL is"),
        ({"facilitator_url": "https://me:pw@x.example.com"}, "FACILITATOR_URL is"),
        ({"facilitator_fallback": True}, "FACILITATOR_FALLBACK needs"),
        (
            {
                "facilitator_fallback": True,
                "facilitator_url": FACILITATOR,
                "relayer_keys": (),
            },
            "FACILITATOR_FALLBACK needs",
        ),
        (CDP, "belong together"),
        ({"facilitator_url": FACILITATOR, "facilitator_cdp_key_id": "id"}, "together"),
        (
            {"facilitator_url": FACILITATOR, "facilitator_cdp_key_secret": CDP_SECRET},
            "together",
        ),
        (
            {"facilitator_url": FACILITATOR}
            | CDP
            | {"facilitator_cdp_key_secret": "SeCrEt"},
            "is no key of Coinbase",
        ),
    ],
)
def test_a_facilitator_that_cannot_be_meant_is_refused(
    values: dict[str, Any], words: str
) -> None:
    (problem,) = refusals(**values)
    assert words in problem
    assert not any(one in problem for one in ("SeCrEt", CDP_SECRET, "me:pw"))


def test_without_relayers_and_facilitator_no_server_starts() -> None:
    with pytest.raises(UnsafeSettings, match="TALLYSTICK_FACILITATOR_URL"):
        check_settings(settings(relayer_keys=()), is_serving=True)


DEPLOYER = "0x" + "4e" * 32
FACTORY = "0x" + "fa" * 20 + ":0x3ffba36f"
UNDEPLOYED = {"wallet_factories": (FACTORY,), "deployer_key": DEPLOYER}


def test_factories_of_wallets_are_taken_with_a_key_of_their_own() -> None:
    check_settings(settings(**UNDEPLOYED), is_serving=True)
    check_settings(settings(wallet_factories=(FACTORY,)))  # to read the books
    check_settings(settings(wallet_factories=f"{FACTORY},{FACTORY}"))
    elsewhere: dict[str, Any] = {
        "run_workers": False,
        "relayer_keys": (),
        "database_url": "postgresql+asyncpg://u:p@h/n",
    }
    served = settings(wallet_factories=(FACTORY,), **elsewhere)
    check_settings(served, is_serving=True)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"deployer_key": None}, "WALLET_FACTORIES is set without DEPLOYER_KEY"),
        ({"wallet_factories": ()}, "DEPLOYER_KEY is set without WALLET_FACTORIES"),
        ({"wallet_factories": (FACTORY[:42],)}, "WALLET_FACTORIES cannot be read"),
        ({"wallet_factories": (FACTORY + "00",)}, "WALLET_FACTORIES cannot be read"),
        ({"wallet_factories": (USDC + ":0xa9059cbb",)}, "is the token, PAY_TO"),
        ({"wallet_factories": (PAY_TO + ":0x3ffba36f",)}, "is the token, PAY_TO"),
        (
            {"pay_to": PAY_TO[2:], "wallet_factories": (PAY_TO + ":0x3ffba36f",)},
            "is the token, PAY_TO",
        ),
        (
            {"wallet_factories": (f"0x{MULTICALL3.hex()}:0x82ad56cb",)},
            "is the token, PAY_TO, Multicall3",
        ),
        ({"deployer_key": "0x" + "00" * 32}, "DEPLOYER_KEY is no private key"),
        ({"deployer_key": "0x12"}, "DEPLOYER_KEY is no private key"),
        ({"deployer_key": KEY}, "DEPLOYER_KEY is one of RELAYER_KEYS"),
        ({"deployer_key": KEY[2:]}, "DEPLOYER_KEY is one of RELAYER_KEYS"),
        (
            {"pay_to": Account.from_key(DEPLOYER).address},
            "DEPLOYER_KEY is the key of PAY_TO",
        ),
        ({"deployer_key": "0x" + KEYS[2].hex()}, "DEPLOYER_KEY is a well-known"),
        ({"facilitator_url": FACILITATOR}, "and FACILITATOR_URL is set"),
        (
            {"run_workers": False, "relayer_keys": ()},
            "take DEPLOYER_KEY from this process",
        ),
    ],
)
def test_factories_that_are_unsafe_are_refused(
    values: dict[str, Any], words: str
) -> None:
    with pytest.raises(UnsafeSettings) as refusal:
        check_settings(settings(**(UNDEPLOYED | values)), is_serving=True)
    assert any(words in one for one in refusal.value.problems)
    assert not any(DEPLOYER[2:] in one for one in refusal.value.problems)


def test_safe_settings_are_taken() -> None:
    check_settings(settings())
    check_settings(settings(pay_to=PAY_TO.lower()))
    check_settings(settings(relayer_keys=()))  # to read the books
    check_settings(settings(relayer_keys=(), take_payments=False), is_serving=True)
    check_settings(settings(database_url="postgresql+asyncpg://u:p@h/n"))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"pay_to": None}, "set TALLYSTICK_PAY_TO"),
        ({"pay_to": "0x1234"}, "PAY_TO is no address"),
        ({"pay_to": "0x" + "zz" * 20}, "PAY_TO is no address"),
        ({"pay_to": "0x" + "00" * 20}, "PAY_TO is the zero address"),
        ({"pay_to": USDC}, "PAY_TO is the token's own contract"),
        ({"pay_to": USDC.lower()}, "PAY_TO is the token's own contract"),
        ({"pay_to": PAY_TO, "asset": PAY_TO}, "PAY_TO is the token's own contract"),
        ({"pay_to": KEYS_ADDRESS}, "PAY_TO is the address of one of RELAYER_KEYS"),
        ({"asset": "0x" + "00" * 20}, "ASSET is no address"),
        ({"pay_to": PAY_TO[:2] + PAY_TO[2:].swapcase()}, "PAY_TO has a wrong checksum"),
        ({"asset": "USDC"}, "ASSET is no address"),
        ({"rpc_urls": ()}, "set TALLYSTICK_RPC_URLS"),
        ({"rpc_urls": ("node.example.com:8545",)}, "one of RPC_URLS is no address"),
        (
            {"witness_rpc_urls": ("node.example.com:8545",)},
            "one of WITNESS_RPC_URLS is no address",
        ),
        (
            {
                "rpc_urls": ("https://a.example.com", "https://b.example.com"),
                "witness_rpc_urls": ("https://b.example.com",),
            },
            "WITNESS_RPC_URLS names a node of RPC_URLS",
        ),
        ({"rpc_urls": ("https://a.test", "ws://b.test")}, "one of RPC_URLS"),
        ({"secret_key": None}, "make one with `tallystick secret`"),
        ({"secret_key": "s" * 31}, "SECRET_KEY is shorter than 32"),
        ({"network": "eip155:1"}, "use one of eip155:8453"),
        ({"network": "base"}, "use one of eip155:8453"),
        ({"relayer_keys": ("0x12",)}, "RELAYER_KEYS is no private key"),
        ({"relayer_keys": ("0x" + "00" * 32,)}, "RELAYER_KEYS is no private key"),
        ({"relayer_keys": ("0x" + "ff" * 32,)}, "RELAYER_KEYS is no private key"),
        ({"relayer_keys": (KEY, KEY[2:])}, "RELAYER_KEYS names a key twice"),
        ({"payback_key": "0x12"}, "PAYBACK_KEY is no private key"),
        ({"payback_key": KEY[2:]}, "PAYBACK_KEY is DEPLOYER_KEY or one of"),
        ({"payback_key": f"0x{KEYS[3].hex()}"}, "PAYBACK_KEY is a well-known test key"),
        (
            {"payback_key": FLOAT, "pay_to": Account.from_key(FLOAT).address},
            "PAYBACK_KEY is the key of PAY_TO",
        ),
        ({"public_url": "shop.example.com"}, "PUBLIC_URL is no address"),
        ({"database_url": "postgresql://u:p@h/n"}, "write sqlite+aiosqlite:///file"),
        ({"database_url": "sqlite+aiosqlite://"}, "DATABASE_URL is of no kind"),
        ({"database_url": "mysql://u:p@h/n"}, "postgresql+asyncpg://user"),
        ({"relayer_keys": (f"0x{KEYS[3].hex()}",)}, "well-known test key"),
        ({"pay_to": f"0x{ADDRESSES[0].hex()}"}, "PAY_TO belongs to a well-known"),
    ],
)
def test_each_unsafe_setting_is_refused_with_its_remedy(
    values: dict[str, Any], words: str
) -> None:
    (problem,) = refusals(**values)
    assert words in problem


def test_all_problems_are_told_at_once() -> None:
    assert len(refusals(pay_to=None, secret_key=None, rpc_urls=())) == 3


def test_a_server_that_could_settle_nothing_is_told_what_to_set() -> None:
    with pytest.raises(UnsafeSettings) as refusal:
        check_settings(settings(relayer_keys=()), is_serving=True)
    (problem,) = refusal.value.problems
    assert "TALLYSTICK_RELAYER_KEYS" in problem
    assert "TALLYSTICK_TAKE_PAYMENTS=false" in problem


@pytest.mark.parametrize(
    ("values", "url"),
    [
        ({}, "http://127.0.0.1:8402"),
        ({"port": 9000}, "http://127.0.0.1:9000"),
        ({"host": "shop.test", "port": 80}, "http://shop.test:80"),
        ({"host": "0.0.0.0"}, "http://127.0.0.1:8402"),
        ({"host": "::1"}, "http://[::1]:8402"),
        ({"port": 9000, "public_url": ""}, "http://127.0.0.1:9000"),
        ({"port": 9000, "public_url": "https://shop.test/"}, "https://shop.test"),
    ],
)
def test_the_public_url_is_where_we_listen_unless_it_is_set(
    values: dict[str, Any], url: str
) -> None:
    """Offers and sign-ins that name another port than the server's fit no request."""
    made = settings(**values)
    assert made.public_url == url
    check_settings(made)


@pytest.mark.parametrize("network", ["eip155:84532"])
def test_well_known_keys_are_fine_where_money_is_worth_nothing(network: str) -> None:
    key, address = f"0x{KEYS[0].hex()}", f"0x{ADDRESSES[0].hex()}"
    check_settings(settings(network=network, relayer_keys=(key,), pay_to=address))


@pytest.fixture
def emulator() -> Iterator[str]:
    name = "FIREBASE_AUTH_EMULATOR_HOST"
    os.environ[name] = "localhost:9099"
    yield name
    del os.environ[name]


def test_an_emulator_has_no_place_beside_real_money(emulator: str) -> None:
    (problem,) = refusals()
    assert emulator in problem
    assert "Unset it" in problem
    check_settings(settings(network="eip155:84532"))


def test_a_crash_point_has_no_place_beside_real_money(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, CrashPoint.SIGNED)
    (problem,) = refusals()
    assert VARIABLE in problem
    assert "Unset it" in problem
    check_settings(settings(network="eip155:84532"))


def test_a_crash_point_that_is_none_is_refused_where_points_are_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A test that misspells one would see no crash, and pass."""
    monkeypatch.setenv(VARIABLE, "after_lunch")
    (problem,) = refusals(network="eip155:84532")
    assert CrashPoint.SIGNED in problem


@given(st.text(min_size=1, max_size=70))
def test_no_refusal_repeats_a_secret(text: str) -> None:
    secret = f"hunter2{text}"
    wrong = {
        "relayer_keys": (secret,),
        "secret_key": "hunter2",
        "database_url": f"mysql://user:{secret}@host/name",
        "rpc_urls": (f"node/{secret}",),
    }
    assert "hunter2" not in "\n".join(refusals(**wrong))


@pytest.mark.parametrize(
    "url", ["", "tallystick.sqlite3", "postgresql+asyncpg://u:p@h:port/n", "sqlite://"]
)
def test_the_url_of_no_database_is_refused(url: str) -> None:
    with pytest.raises(UnsafeSettings, match="DATABASE_URL"):
        check_database_url(url)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_an_address_is_refused_only_while_somebody_else_listens(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UnsafeSettings, match="already in use"):
            check_address(host, port)
    check_address(host, port)


@pytest.mark.parametrize("host", ["nonesuch.invalid", "192.0.2.1"])
def test_an_address_that_is_not_ours_is_refused(host: str) -> None:
    with pytest.raises(UnsafeSettings, match="cannot be listened on"):
        check_address(host, 0)


class TestToken:
    """The token on chain must be the one whose signatures we will believe."""

    DOMAIN = TokenDomain(
        84532,
        NETWORKS["eip155:84532"].usdc.contract,
        NETWORKS["eip155:84532"].usdc.name,
        NETWORKS["eip155:84532"].usdc.version,
    )

    async def test_the_expected_token_is_taken(self, local: LocalChain) -> None:
        await check_token(local.chain, self.DOMAIN)

    async def test_a_token_with_another_domain_is_refused(
        self, local: LocalChain
    ) -> None:
        other = TokenDomain(84532, self.DOMAIN.contract, "USD Coin", "2")
        with pytest.raises(UnsafeSettings, match="EIP-712 domain on chain"):
            await check_token(local.chain, other)

    async def test_a_token_with_other_decimals_is_refused(
        self, local: LocalChain, proxy: FaultProxy
    ) -> None:
        """A22: with 18 decimals, a dollar would be worth a trillionth."""
        six, eighteen = (f"0x{number:064x}" for number in (6, 18))
        proxy.inject(
            "eth_call", Rewrite(change=lambda got: eighteen if got == six else got)
        )
        chain = local.open_chain(proxy.url)
        try:
            with pytest.raises(UnsafeSettings, match="18 decimals and 6 are expected"):
                await check_token(chain, self.DOMAIN)
        finally:
            await chain.close()

    async def test_an_address_without_a_token_is_refused(
        self, local: LocalChain
    ) -> None:
        chain = Chain([local.url], chain_id=84532, token=b"\x0e" * 20)
        try:
            with pytest.raises(TokenUnreadable):
                await check_token(chain, self.DOMAIN)
        finally:
            await chain.close()

    async def test_a_node_of_another_chain_is_refused(self, local: LocalChain) -> None:
        chain = Chain([local.url], chain_id=8453, token=local.token)
        try:
            with pytest.raises(WrongChain, match="84532, not of 8453"):
                await check_token(chain, self.DOMAIN)
        finally:
            await chain.close()


async def test_factories_are_refused_on_a_chain_that_has_nobody_to_call_them(
    local: LocalChain,
) -> None:
    await local.plant(MULTICALL3, b"")  # another test may have left it there
    with pytest.raises(UnsafeSettings, match="this chain has no Multicall3"):
        await check_multicall(local.chain)
    await local.plant(MULTICALL3, artifact("Multicall"))
    await check_multicall(local.chain)


async def execute(url: str, statement: str) -> None:
    db = open_database(url)
    async with db.writer.begin() as connection:
        await connection.execute(text(statement))
    await db.close()


class TestDatabase:
    """A database that cannot be used is told in words, without its password."""

    async def refusal(self, url: str) -> str:
        db = open_database(url)
        try:
            with pytest.raises(UnsafeSettings) as refused:
                await check_database(db)
        finally:
            await db.close()
        return str(refused.value)

    async def test_a_schema_of_another_version(
        self, postgres: PostgresServer, tmp_path: Path
    ) -> None:
        words = await self.refusal(postgres.url("postgres"))
        assert "run `tallystick migrate`" in words
        (tmp_path / "empty.sqlite3").touch()
        words = await self.refusal(f"sqlite+aiosqlite:///{tmp_path}/empty.sqlite3")
        assert "run `tallystick migrate`" in words

    async def test_a_server_that_is_not_there(self) -> None:
        url = "postgresql+asyncpg://user:hunter2@127.0.0.1:1/name"
        words = await self.refusal(url)
        assert "ConnectionRefusedError" in words
        assert "hunter2" not in words

    async def test_a_database_that_is_not_there(self, postgres: PostgresServer) -> None:
        assert "check DATABASE_URL" in await self.refusal(postgres.url("nonesuch"))

    async def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        file = tmp_path / "tallystick.sqlite3"
        words = await self.refusal(f"sqlite+aiosqlite:///{file}")
        assert f"there is no database at {file}" in words
        assert not file.exists(), "a question makes no database"

    async def test_a_folder_instead_of_a_file(self, tmp_path: Path) -> None:
        words = await self.refusal(f"sqlite+aiosqlite:///{tmp_path}")
        assert f"names the folder {tmp_path}" in words

    async def test_a_file_of_another_kind(self, tmp_path: Path) -> None:
        file = tmp_path / "notes.txt"
        file.write_text("This is no database, and longer than any of its headers. " * 9)
        words = await self.refusal(f"sqlite+aiosqlite:///{file}")
        assert "no SQLite database" in words

    async def test_a_user_whom_postgresql_refuses(
        self, postgres: PostgresServer
    ) -> None:
        url = postgres.url("postgres").replace("tallystick@", "nobody:hunter2@")
        words = await self.refusal(url)
        assert "check DATABASE_URL" in words
        assert "hunter2" not in words

    async def test_tables_of_another_program_stay_as_they_are(
        self, empty_url: str
    ) -> None:
        await execute(empty_url, "CREATE TABLE recipe (name TEXT)")
        db = open_database(empty_url)
        try:
            with pytest.raises(UnsafeSettings, match="tables of another program"):
                await open_storage(db, migrate=True)
            with pytest.raises(UnsafeSettings, match="tables of another program"):
                await open_storage(db, migrate=False)
            async with db.reader.connect() as connection:
                tables = await connection.run_sync(
                    lambda sync: inspect(sync).get_table_names()
                )
        finally:
            await db.close()
        assert tables == ["recipe"]

    async def test_the_schema_of_a_newer_version(self, database_url: str) -> None:
        await execute(database_url, "UPDATE alembic_version SET version_num = '9999'")
        db = open_database(database_url)
        try:
            for migrate in (True, False):
                with pytest.raises(UnsafeSettings, match="newer version"):
                    await open_storage(db, migrate=migrate)
        finally:
            await db.close()

    def test_a_folder_that_is_not_there(self) -> None:
        db = open_database("sqlite+aiosqlite:////nonesuch/tallystick.sqlite3")
        with pytest.raises(UnsafeSettings, match="the file may be written"):
            own_file(db).__enter__()


def test_permit2_needs_a_relayer_where_payments_are_settled() -> None:
    """No facilitator is asked for such payments; a server may leave them to workers."""
    only_facilitator = {"relayer_keys": (), "facilitator_url": FACILITATOR}
    (problem,) = refusals(permit2=True, **only_facilitator)
    assert problem.startswith("PERMIT2 needs RELAYER_KEYS")
    check_settings(settings(permit2=True), is_serving=True)
    check_settings(settings(permit2=True, facilitator_url=FACILITATOR))
    database = "postgresql+asyncpg://tallystick:secret@db.example.com/tallystick"
    away = {"run_workers": False, "relayer_keys": (), "database_url": database}
    check_settings(settings(permit2=True, **away))
