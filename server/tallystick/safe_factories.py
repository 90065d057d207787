"""Which factories a signature may name, and the key that pays for it (A29)."""

import re

from eth_account import Account

from tallystick.chain.deployment import MULTICALL3
from tallystick.chain.well_known import WELL_KNOWN_KEYS
from tallystick.config import Settings
from tallystick.x402.erc6492 import Factory
from tallystick.x402.networks import NETWORKS
from tallystick.x402.signature import ORDER

_FACTORY = re.compile(r"0x([0-9a-fA-F]{40}):0x([0-9a-fA-F]{8})")
_ADDRESS = re.compile(r"(?:0x)?([0-9a-fA-F]{40})")
_KEY = re.compile(r"(?:0x)?([0-9a-fA-F]{64})")


def factories_in(settings: Settings) -> frozenset[Factory]:
    """The factories of the settings, as far as they can be read."""
    read = [_FACTORY.fullmatch(one) for one in settings.wallet_factories]
    return frozenset(
        (bytes.fromhex(one[1]), bytes.fromhex(one[2])) for one in read if one
    )


def factory_problems(
    settings: Settings, *, is_serving: bool, is_test_network: bool
) -> list[str]:
    """What is wrong with them and with the deployer's key, each with its remedy.

    Whoever only reads the books (not ``is_serving``) needs no key.
    """
    if not settings.wallet_factories and settings.deployer_key is None:
        return []
    problems = [*_of_list(settings), *_of_company(settings, is_serving=is_serving)]
    if settings.deployer_key is not None:
        problems += _of_key(settings, is_test_network=is_test_network)
    return problems


def _of_list(settings: Settings) -> list[str]:
    problems = []
    if not all(_FACTORY.fullmatch(one) for one in settings.wallet_factories):
        problems.append(
            "one of WALLET_FACTORIES cannot be read: write the factory's address, a"
            " colon and the selector of the function that deploys, as 0x…:0x12345678."
        )
    ours = (_address(settings.asset), _address(settings.pay_to))
    forbidden = {bytes(20), MULTICALL3, *filter(None, ours)}
    if settings.network in NETWORKS:
        forbidden.add(NETWORKS[settings.network].usdc.contract)
    if forbidden & {factory for factory, _ in factories_in(settings)}:
        problems.append(
            "one of WALLET_FACTORIES is the token, PAY_TO, Multicall3 or the zero"
            " address, which deploy no wallets: remove it."
        )
    return problems


def _address(text: str | None) -> bytes | None:
    found = _ADDRESS.fullmatch(text or "")
    return bytes.fromhex(found[1]) if found else None


def _of_company(settings: Settings, *, is_serving: bool) -> list[str]:
    """What has to be set together, and what must not be."""
    problems = []
    has_key = settings.deployer_key is not None
    if settings.facilitator_url is not None:
        problems.append(
            "WALLET_FACTORIES and DEPLOYER_KEY are for relayers, and FACILITATOR_URL is"
            " set: unset one or the other."
        )
    if has_key and not settings.wallet_factories:
        problems.append(
            "DEPLOYER_KEY is set without WALLET_FACTORIES, so it would pay for nothing:"
            " set both, or unset it."
        )
    settles = settings.run_workers and settings.take_payments
    if is_serving and settles and not has_key:
        problems.append(
            "WALLET_FACTORIES is set without DEPLOYER_KEY, so nobody could pay for the"
            " deployments: set it to a private key that has ether and nothing else."
        )
    if has_key and not settings.run_workers:
        problems.append(
            "RUN_WORKERS is false, so nothing is settled here: take DEPLOYER_KEY from"
            " this process and give it to `tallystick worker`."
        )
    return problems


def _of_key(settings: Settings, *, is_test_network: bool) -> list[str]:
    assert settings.deployer_key is not None
    key = _key(settings.deployer_key.get_secret_value())
    if key is None:
        return ["DEPLOYER_KEY is no private key: write 0x and 64 hex digits."]
    problems = []
    if key in {_key(one.get_secret_value()) for one in settings.relayer_keys}:
        problems.append(
            "DEPLOYER_KEY is one of RELAYER_KEYS: what a signature names is called on"
            " its behalf, so use a key that does nothing else."
        )
    if _address(settings.pay_to) == _address(Account.from_key(key).address):
        problems.append(
            "DEPLOYER_KEY is the key of PAY_TO: use one that does nothing else."
        )
    if key in WELL_KNOWN_KEYS and not is_test_network:
        problems.append("DEPLOYER_KEY is a well-known test key: anybody can empty it.")
    return problems


def _key(text: str) -> bytes | None:
    found = _KEY.fullmatch(text)
    key = bytes.fromhex(found[1]) if found else None
    is_one = key is not None and 0 < int.from_bytes(key, "big") < ORDER
    return key if is_one else None
