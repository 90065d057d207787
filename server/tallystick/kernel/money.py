"""Money is an integer with an asset; no float ever holds it (docs/decisions/0001).

Credits and USDC both have scale 6, so a top-up converts without rounding whenever the
catalog's price allows it. A scale can never be changed later, so it is the larger one.
"""

import re
from dataclasses import dataclass
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import NewType

from tallystick.kernel.errors import BadInput

MicroCredits = NewType("MicroCredits", int)
"""Credits at scale 6: 1 credit is 1_000_000."""

UsdcAtomic = NewType("UsdcAtomic", int)
"""USDC in the token's own atomic units: $1 is 1_000_000."""

NO_CREDITS = MicroCredits(0)

CREDIT_SCALE = 6
USDC_SCALE = 6
AMOUNT_LIMIT = 1 << 62
"""No single amount reaches this, so that sums stay inside a signed 64-bit column."""
_DECIMAL = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?")
_EXACT_TYPES = (str, int, Decimal)  # a float has lost digits already, a bool is none
# Wide enough for 256-bit integers of a chain; the thread's own context is not trusted.
_EXACT = Context(prec=120, traps=[InvalidOperation, Inexact])


@dataclass(frozen=True, slots=True)
class Asset:
    """What is counted, and how many decimal places its atomic unit stands for."""

    code: str
    scale: int


CREDIT = Asset("CREDIT", CREDIT_SCALE)
USDC = Asset("USDC", USDC_SCALE)
USD = Asset("USD", 2)
ASSETS = {asset.code: asset for asset in (CREDIT, USDC, USD)}


class InvalidAmount(BadInput):
    """A number that cannot be an amount: negative, too fine, too large or no number."""

    next_step = "Send a positive number with at most six decimal places."


@dataclass(frozen=True, slots=True)
class Amount:
    """A positive whole count of an asset's atomic units.

    Raises ``InvalidAmount`` when it is no whole number, not positive or reaches
    ``AMOUNT_LIMIT``.
    """

    atomic: int
    asset: Asset

    def __post_init__(self) -> None:
        # A float would pass mypy through an Any, and SQLite would store it.
        if type(self.atomic) is not int or not 0 < self.atomic < AMOUNT_LIMIT:
            raise InvalidAmount("an amount is a positive whole number below 2**62")


def parse_decimal(text: str | int | Decimal, scale: int) -> int:
    """The atomic units of a decimal number; exact or refused, never rounded.

    Raises ``InvalidAmount`` for what is no finite number, has more than ``scale``
    decimals or reaches ``AMOUNT_LIMIT``. Zero and negative numbers pass: whether they
    make sense is for the caller to say.
    """
    if type(text) not in _EXACT_TYPES:
        raise InvalidAmount(f"a {type(text).__name__} is no exact number")
    try:
        spelled = str(text)
    except ValueError as error:  # Python refuses to spell out thousands of digits
        raise InvalidAmount("the number is too large") from error
    shown = repr(spelled[:40])
    # Decimal() alone also takes "1_0", " 1 ", "NaN" and Arabic-Indic digits.
    if not _DECIMAL.fullmatch(spelled):
        raise InvalidAmount(f"{shown} is not a number")
    try:
        atomic = Decimal(spelled).scaleb(scale, context=_EXACT)
        whole = atomic.quantize(Decimal(1), context=_EXACT)
    except Inexact as error:
        raise InvalidAmount(f"{shown} has more than {scale} decimal places") from error
    except InvalidOperation as error:
        raise InvalidAmount(f"{shown} is not a possible amount") from error
    units = int(whole)
    if abs(units) >= AMOUNT_LIMIT:
        raise InvalidAmount(f"{shown} is too large")
    return units


def to_decimal(atomic: int, scale: int = CREDIT_SCALE) -> Decimal:
    """The exact decimal number of so many atomic units, without trailing zeros."""
    number = Decimal(atomic).scaleb(-scale, context=_EXACT)
    if number == number.to_integral_value():
        return number.to_integral_value()
    return number.normalize(context=_EXACT)


def parse_credits(text: str | int | Decimal) -> MicroCredits:
    """Micro-credits of a number of credits; raises ``InvalidAmount``."""
    return MicroCredits(parse_decimal(text, CREDIT_SCALE))


def format_credits(micro: int) -> str:
    """Credits for people and headers: ``4.5``."""
    whole, part = divmod(abs(micro), 10**CREDIT_SCALE)
    digits = f".{part:0{CREDIT_SCALE}}".rstrip("0").rstrip(".")
    return f"{'-' if micro < 0 else ''}{whole}{digits}"


def format_usdc(atomic: int) -> str:
    """Dollars for people, with at least two decimals: ``$0.05``, ``$0.000001``."""
    number = to_decimal(atomic, USDC_SCALE)
    places = max(2, -int(number.as_tuple().exponent))
    return f"${number:.{places}f}"
