"""Which settings are safe, as far as they tell by themselves; each refusal says what to do."""

import os
import re
from urllib.parse import urlsplit

from eth_account import Account
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from tallystick.chain.well_known import (
    WELL_KNOWN_ADDRESSES,
    WELL_KNOWN_KEYS,
    WELL_KNOWN_SECRET,
)
from tallystick.config import Settings
from tallystick.kernel.crash_points import VARIABLE as CRASH_AT
from tallystick.kernel.crash_points import CrashPoint
from tallystick.safe_factories import factory_problems
from tallystick.x402.cdp_key import CdpKey, NoCdpKey
from tallystick.x402.facilitator import is_facilitator_url
from tallystick.x402.keccak import checksum_address
from tallystick.x402.networks import NETWORKS
from tallystick.x402.signature import ORDER
from tallystick.x402.siwe_message import origin_of

_EMULATORS = ("FIREBASE_AUTH_EMULATOR_HOST", "FIRESTORE_EMULATOR_HOST")
_TEST_NETWORKS = frozenset({"eip155:84532", "eip155:31337"})
_DRIVERS = ("sqlite+aiosqlite", "postgresql+asyncpg")
_NO_DATABASE = (
    "DATABASE_URL is of no kind that is known: write sqlite+aiosqlite:///file or"
    " postgresql+asyncpg://user:password@host/name."
)
_SHORTEST_TOKEN = 16
_ZERO = bytes(20)
_NO_ADDRESS = {"PAY_TO": (None,), "ASSET": (None, _ZERO)}


class UnsafeSettings(Exception):
    """The server will not start with these settings. Each line names the remedy."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def check_settings(settings: Settings, *, is_serving: bool = False) -> None:
    """Everything that can be judged without the chain.

    Whoever only reads the books needs no relayer. Raises ``UnsafeSettings`` with all
    problems at once.
    """
    problems = [
        *_missing(settings),
        *(_missing_relayer(settings) if is_serving else []),
        *_malformed(settings),
        *_facilitator(settings),
        *factory_problems(
            settings,
            is_serving=is_serving,
            is_test_network=settings.network in _TEST_NETWORKS,
        ),
        *_payback_key(settings),
        *_without_workers(settings),
        *_misdirected(settings),
        *_on_a_real_chain(settings),
        *_unknown_crash_point(),
    ]
    if problems:
        raise UnsafeSettings(problems)


def _missing(settings: Settings) -> list[str]:
    problems = []
    if settings.pay_to is None:
        problems.append(
            "PAY_TO is not set: set TALLYSTICK_PAY_TO to the address that shall"
            " receive the payments."
        )
    if not settings.rpc_urls:
        problems.append(
            "RPC_URLS is not set: set TALLYSTICK_RPC_URLS to one or more nodes of"
            f" {settings.network}."
        )
    if settings.secret_key is None:
        problems.append(
            "SECRET_KEY is not set: make one with `tallystick secret` and set"
            " TALLYSTICK_SECRET_KEY; keep it, or old keys and quotes stop working."
        )
    return problems


def _missing_relayer(settings: Settings) -> list[str]:
    is_settled_here = settings.relayer_keys or settings.facilitator_url
    if is_settled_here or not (settings.take_payments and settings.run_workers):
        return []
    problem = (
        "RELAYER_KEYS is not set, so no payment could be settled: set"
        " TALLYSTICK_RELAYER_KEYS to a private key with ether for gas,"
        " TALLYSTICK_FACILITATOR_URL to a facilitator, or"
        " TALLYSTICK_TAKE_PAYMENTS=false to offer no payments."
    )
    return [problem]


def _malformed(settings: Settings) -> list[str]:
    problems = [*_malformed_places(settings)]
    for name, text in (("PAY_TO", settings.pay_to), ("ASSET", settings.asset)):
        if text is not None and _address(text) in _NO_ADDRESS[name]:
            problems.append(f"{name} is no address: write 0x and 40 hex digits.")
        elif text is not None and not _checksum_fits(text):
            problems.append(f"{name} has a wrong checksum: copy the address again.")
    keys = [_key(key.get_secret_value()) for key in settings.relayer_keys]
    if None in keys:
        problems.append(
            "one of RELAYER_KEYS is no private key: write 0x and 64 hex digits."
        )
    if len(set(keys)) < len(keys):
        problems.append("RELAYER_KEYS names a key twice: remove one of them.")
    if settings.secret_key is not None:
        length = len(settings.secret_key.get_secret_value())
        if length < 32:
            problems.append(
                "SECRET_KEY is shorter than 32 characters: make a longer one."
            )
    token = settings.metrics_token
    if token is not None and len(token.get_secret_value()) < _SHORTEST_TOKEN:
        problems.append(
            f"METRICS_TOKEN is shorter than {_SHORTEST_TOKEN} characters: make a longer"
            " one, or unset it."
        )
    return problems


def _without_workers(settings: Settings) -> list[str]:
    if settings.run_workers:
        return []
    problems = []
    if settings.database_url.startswith("sqlite"):
        problems.append(
            "RUN_WORKERS is false, and a SQLite file has one process: unset it, or set"
            " DATABASE_URL to a PostgreSQL that `tallystick worker` uses, too."
        )
    if settings.relayer_keys or settings.facilitator_url or settings.payback_key:
        problems.append(
            "RUN_WORKERS is false, so nothing is settled here: take RELAYER_KEYS,"
            " FACILITATOR_URL and PAYBACK_KEY from this process and give them to"
            " `tallystick worker`."
        )
    return problems


def check_worker(settings: Settings) -> None:
    """What a process of workers alone needs besides; raises ``UnsafeSettings``."""
    problems = []
    if settings.database_url.startswith("sqlite"):
        problems.append(
            "a SQLite file has one process, and `tallystick serve` runs its workers"
            " itself: set DATABASE_URL to a PostgreSQL, or run no worker."
        )
    if not settings.run_workers:
        problems.append("RUN_WORKERS is false: unset it for `tallystick worker`.")
    if problems:
        raise UnsafeSettings(problems)


def _payback_key(settings: Settings) -> list[str]:
    """The float's key signs for itself alone: not for the income, nor beside another."""
    if settings.payback_key is None:
        return []
    key = _key(settings.payback_key.get_secret_value())
    if key is None:
        return ["PAYBACK_KEY is no private key: write 0x and 64 hex digits."]
    problems = []
    if settings.pay_to and _address(settings.pay_to) == _address_of(key):
        problems.append(
            "PAYBACK_KEY is the key of PAY_TO, so whoever takes the server takes the"
            " income: make another key, and send it a little USDC."
        )
    others = filter(None, (*settings.relayer_keys, settings.deployer_key))
    if key in {_key(one.get_secret_value()) for one in others}:
        problems.append(
            "PAYBACK_KEY is DEPLOYER_KEY or one of RELAYER_KEYS, and each counts its"
            " transactions by itself: make another key."
        )
    if settings.network not in _TEST_NETWORKS and key in WELL_KNOWN_KEYS:
        problems.append("PAYBACK_KEY is a well-known test key: anybody can empty it.")
    return problems


def _address_of(key: bytes) -> bytes | None:
    return _address(Account.from_key(key).address)


def _facilitator(settings: Settings) -> list[str]:
    problems = []
    url = settings.facilitator_url
    if url is not None and not is_facilitator_url(url):
        problems.append(
            "FACILITATOR_URL is none that payments may be sent to: write it as"
            " https://facilitator.example.com, without a login (http only for this"
            " machine)."
        )
    if settings.facilitator_fallback and not (url and settings.relayer_keys):
        problems.append(
            "FACILITATOR_FALLBACK needs FACILITATOR_URL and RELAYER_KEYS: set both, or"
            " unset it."
        )
    is_without_keys = settings.run_workers and not settings.relayer_keys
    if settings.act_as_facilitator and is_without_keys:
        problems.append(
            "ACT_AS_FACILITATOR needs RELAYER_KEYS, which pay the gas of what other"
            " sellers have settled: set them, or unset it."
        )
    if settings.permit2 and is_without_keys:
        problems.append(
            "PERMIT2 needs RELAYER_KEYS, because no facilitator is asked to settle such"
            " payments: set them, or unset it."
        )
    return problems + _cdp_key(settings)


def _cdp_key(settings: Settings) -> list[str]:
    key_id, secret = (
        settings.facilitator_cdp_key_id,
        settings.facilitator_cdp_key_secret,
    )
    if key_id is None and secret is None:
        return []
    if not (key_id and secret and settings.facilitator_url):
        problem = (
            "FACILITATOR_CDP_KEY_ID, FACILITATOR_CDP_KEY_SECRET and FACILITATOR_URL"
            " belong together: set all three."
        )
        return [problem]
    try:
        CdpKey(key_id, secret.get_secret_value())
    except NoCdpKey:
        return ["FACILITATOR_CDP_KEY_SECRET is no key of Coinbase's: copy it again."]
    return []


def _unknown_crash_point() -> list[str]:
    """A test that names no point would pass without any crash."""
    named = os.environ.get(CRASH_AT)
    if not named or named in set(CrashPoint):
        return []
    return [f"{CRASH_AT} names no crash point: use one of {', '.join(CrashPoint)}."]


def _misdirected(settings: Settings) -> list[str]:
    """What would send the payments where nobody can spend them."""
    pay_to = _address(settings.pay_to or "")
    if pay_to is None:
        return []
    tokens = {_address(settings.asset or "")}
    if settings.network in NETWORKS:
        tokens.add(NETWORKS[settings.network].usdc.contract)
    problems = []
    if pay_to == _ZERO:
        problems.append(
            "PAY_TO is the zero address, which refuses tokens: set it to your own."
        )
    if pay_to in tokens:
        problems.append(
            "PAY_TO is the token's own contract, where money is lost: set it to an"
            " address of yours."
        )
    return problems


def _malformed_places(settings: Settings) -> list[str]:
    problems = []
    if settings.network not in NETWORKS:
        known = ", ".join(NETWORKS)
        problems.append(f"NETWORK {settings.network!r} is unknown: use one of {known}.")
    # The URLs are not repeated: they may hold passwords and keys.
    if not _is_database_url(settings.database_url):
        problems.append(_NO_DATABASE)
    if not all(is_web_address(url) for url in settings.rpc_urls):
        problems.append(
            "one of RPC_URLS is no address: write it as https://node.example.com."
        )
    if not all(is_web_address(url) for url in settings.witness_rpc_urls):
        problems.append(
            "one of WITNESS_RPC_URLS is no address: write it as"
            " https://node.example.com."
        )
    if set(settings.witness_rpc_urls) & set(settings.rpc_urls):
        problems.append(
            "WITNESS_RPC_URLS names a node of RPC_URLS, which would only agree with"
            " itself: name nodes of another provider."
        )
    if origin_of(settings.public_url) is None:
        problems.append(
            "PUBLIC_URL is no address: write it as https://api.example.com."
        )
    return problems


def check_database_url(url: str) -> None:
    """Raise ``UnsafeSettings`` for the URL of no database that we know."""
    if not _is_database_url(url):
        raise UnsafeSettings([_NO_DATABASE])


def _is_database_url(url: str) -> bool:
    try:
        parts = make_url(url)
    except (ArgumentError, ValueError):
        return False
    # The writer and the readers would each have a database of their own in memory.
    return parts.drivername in _DRIVERS and parts.database not in {None, ":memory:"}


def is_web_address(url: str) -> bool:
    """Whether it is the URL of an HTTP server."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def _on_a_real_chain(settings: Settings) -> list[str]:
    if settings.network in _TEST_NETWORKS:
        return []
    problems = [
        f"{name} is set: it accepts unsigned tokens, so it has no place beside real"
        " money. Unset it."
        for name in _EMULATORS
        if os.environ.get(name)
    ]
    if os.environ.get(CRASH_AT):
        problems.append(
            f"{CRASH_AT} is set: it lets the server die in the middle of a payment, and"
            " is for tests. Unset it."
        )
    keys = {_key(key.get_secret_value()) for key in settings.relayer_keys}
    if keys & WELL_KNOWN_KEYS:
        problems.append(
            "one of RELAYER_KEYS is a well-known test key: anybody can empty it."
        )
    secret = settings.secret_key
    if secret is not None and secret.get_secret_value() == WELL_KNOWN_SECRET:
        problems.append(
            "SECRET_KEY is the local chain's, which everybody knows: make one with"
            " `tallystick secret`."
        )
    relayers = [_address_of(key) for key in keys if key is not None]
    if settings.pay_to and _address(settings.pay_to) in relayers:
        problems.append(
            "PAY_TO is the address of one of RELAYER_KEYS, so whoever takes the server"
            " takes the income: set it to an address whose key is elsewhere."
        )
    if settings.pay_to and _address(settings.pay_to) in WELL_KNOWN_ADDRESSES:
        problems.append(
            "PAY_TO belongs to a well-known test key: anybody can empty it."
        )
    return problems


def _address(text: str) -> bytes | None:
    return _hex(text, 20)


def is_address(text: str) -> bool:
    """Whether it is an address that somebody can be paid at, its checksum included."""
    return _address(text) not in {None, _ZERO} and _checksum_fits(text)


def _key(text: str) -> bytes | None:
    key = _hex(text, 32)
    is_one = key is not None and 0 < int.from_bytes(key, "big") < ORDER
    return key if is_one else None


def _hex(text: str, size: int) -> bytes | None:
    # bytes.fromhex alone skips white space.
    if not re.fullmatch(rf"(0x)?[0-9a-fA-F]{{{2 * size}}}", text):
        return None
    return bytes.fromhex(text.removeprefix("0x"))


def _checksum_fits(text: str) -> bool:
    digits = text.removeprefix("0x")
    if digits in (digits.lower(), digits.upper()):
        return True
    address = _address(text)
    return address is not None and checksum_address(address).endswith(digits)
