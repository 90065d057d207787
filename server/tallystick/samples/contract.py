"""What a contract says of itself, when it need not be well-behaved.

Every read has little gas, is cut to a sane size and may fail: a hostile contract gives
a note, never an exception. Only a chain that cannot be reached raises.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

from tallystick.chain.abi import (
    BALANCE_OF,
    DECIMALS,
    NAME,
    SYMBOL,
    WORD_BYTES,
    selector,
    word,
)
from tallystick.chain.errors import RpcErrorAnswer
from tallystick.chain.rpc import Chain
from tallystick.chain.together import together
from tallystick.samples.context import show_address

T = TypeVar("T")
READ_GAS = 300_000
"""Enough for any honest getter, and too little to return a megabyte."""

TEXT_LIMIT = 64
_ANSWER_LIMIT_BYTES = 4_096
_TOTAL_SUPPLY = selector("totalSupply()")
_OWNER = selector("owner()")
_PAUSED = selector("paused()")
# EIP-1967: the hash of "eip1967.proxy.implementation", less one.
_IMPLEMENTATION = 0x360894A13BA1A3210667C828492DB98DCA3E2076CC3735A920A3CA505D382BBC
_CLONE_PREFIX = bytes.fromhex("363d3d373d3d3d363d73")  # EIP-1167


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractFacts:
    """An address read once; None where it gave no usable answer.

    ``code`` is the runtime code (empty for an externally owned address), followed for
    a proxy by that of its ``implementation``. ``supply`` is in atomic units.
    """

    address: bytes
    code: bytes
    implementation: bytes | None = None
    name: str | None = None
    symbol: str | None = None
    decimals: int | None = None
    supply: int | None = None
    owner: bytes | None = None
    is_paused: bool | None = None

    @property
    def is_contract(self) -> bool:
        return bool(self.code)

    @property
    def is_token(self) -> bool:
        """Whether it has a total supply, as an EIP-20 token must."""
        return self.supply is not None

    @property
    def shown_owner(self) -> str | None:
        """The owner as people read it; the zero address when ownership was given up."""
        return None if self.owner is None else show_address(self.owner)

    @property
    def notes(self) -> list[str]:
        """What is odd about it, in plain words."""
        if not self.is_contract:
            return ["There is no contract at this address."]
        if not self.is_token:
            return ["The contract does not answer as an EIP-20 token."]
        found = []
        if self.name is None or self.symbol is None:
            found.append("Its name or symbol cannot be read.")
        if self.decimals is None:
            found.append("It does not say how many decimals it has.")
        return found


async def read_contract(chain: Chain, address: bytes) -> ContractFacts:
    """Everything that a contract tells about itself; raises ``RpcUnavailable``."""
    code = await chain.code_at(address)
    if not code:
        return ContractFacts(address=address, code=b"")
    implementation = await _implementation(chain, address, code)
    if implementation is not None:
        code += await chain.code_at(implementation)
    texts = await together(
        [read(chain, address, call, as_text) for call in (NAME, SYMBOL)], 2
    )
    numbers = await together(
        [
            read(chain, address, call, as_number)
            for call in (DECIMALS, _TOTAL_SUPPLY, _OWNER, _PAUSED)
        ],
        4,
    )
    return ContractFacts(
        address=address,
        code=code,
        implementation=implementation,
        name=texts[0],
        symbol=texts[1],
        decimals=_at_most(numbers[0], 255),
        supply=numbers[1],
        owner=as_address(numbers[2]),
        is_paused={0: False, 1: True}.get(-1 if numbers[3] is None else numbers[3]),
    )


async def read_balance(chain: Chain, token: bytes, holder: bytes) -> int | None:
    """The holder's atomic units of any token, or None; raises ``RpcUnavailable``."""
    return await read(chain, token, BALANCE_OF + word(holder), as_number)


async def read(
    chain: Chain, to: bytes, calldata: bytes, parse: Callable[[bytes], T | None]
) -> T | None:
    """The contract's answer, or None when it gives none that makes sense."""
    try:
        return parse(await chain.call(to, calldata, gas=READ_GAS))
    except RpcErrorAnswer:
        return None


def as_number(answer: bytes) -> int | None:
    """One ABI word as a number."""
    return int.from_bytes(answer, "big") if len(answer) == WORD_BYTES else None


def as_address(number: int | None) -> bytes | None:
    """A number as an address, if it is small enough to be one."""
    if number is None or number >= 1 << 160:
        return None
    return number.to_bytes(20, "big")


def as_text(answer: bytes) -> str | None:
    """An ABI string, or old tokens' 32 bytes; short, and without invisible characters.

    The words are the contract's: they may try to mislead whoever reads the report.
    """
    if len(answer) == WORD_BYTES:
        found = answer.rstrip(b"\0").decode(errors="replace")
        return _shown(found)
    if len(answer) > _ANSWER_LIMIT_BYTES:
        return None
    try:
        (found,) = decode(("string",), answer)
    except (DecodingError, UnicodeDecodeError, OverflowError):
        return None
    return _shown(str(found))


def _shown(text: str) -> str | None:
    visible = "".join(
        character if character.isprintable() else "?" for character in text
    )
    if len(visible) > TEXT_LIMIT:
        visible = visible[: TEXT_LIMIT - 1] + "…"
    return visible or None


def _at_most(number: int | None, limit: int) -> int | None:
    return number if number is not None and number <= limit else None


async def _implementation(chain: Chain, address: bytes, code: bytes) -> bytes | None:
    """Where a proxy's real code lies: EIP-1167 clones say it in theirs, EIP-1967 not."""
    if code.startswith(_CLONE_PREFIX):
        return code[len(_CLONE_PREFIX) :][:20].ljust(20, b"\0")
    slot = await chain.storage_at(address, _IMPLEMENTATION)
    return slot[-20:] if any(slot[-20:]) else None


def show_amount(atomic: int, decimals: int) -> str:
    """Atomic units with the decimal point put in, exact at any size: ``1.5``."""
    digits = str(atomic).rjust(decimals + 1, "0")
    whole, fraction = digits[: len(digits) - decimals], digits[len(digits) - decimals :]
    fraction = fraction.rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole
