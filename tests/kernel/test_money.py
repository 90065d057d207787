"""Money is exact or refused."""

import ast
import decimal
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tallystick
from tallystick.kernel.money import (
    AMOUNT_LIMIT,
    CREDIT,
    USDC,
    Amount,
    InvalidAmount,
    format_credits,
    format_usdc,
    parse_credits,
    parse_decimal,
    to_decimal,
)

_ATOMIC = st.integers(min_value=1 - AMOUNT_LIMIT, max_value=AMOUNT_LIMIT - 1)
_MONEY_CORE = ["kernel/money.py", "ledger", "credits", "claims", "metering", "catalog"]


@given(_ATOMIC)
def test_what_is_printed_reads_back_as_the_same_amount(atomic: int) -> None:
    assert parse_credits(format_credits(atomic)) == atomic
    assert parse_decimal(to_decimal(atomic), 6) == atomic
    assert parse_decimal(format_usdc(atomic).replace("$", ""), 6) == atomic


@given(st.integers(min_value=0, max_value=2**256))
def test_a_number_of_the_chain_is_shown_to_its_last_digit(atomic: int) -> None:
    assert int(to_decimal(atomic).scaleb(6, decimal.Context(prec=120))) == atomic
    assert Decimal(format_usdc(atomic)[1:]) == to_decimal(atomic)


@given(
    st.from_regex(
        r"-?[0-9]{1,30}(\.[0-9]{1,12})?([eE][+-]?[0-9]{1,2})?", fullmatch=True
    )
)
def test_a_decimal_is_taken_exactly_or_not_at_all(text: str) -> None:
    wide = decimal.Context(prec=400)
    exact = Decimal(text).scaleb(6, wide)
    try:
        parsed = parse_credits(text)
    except InvalidAmount:
        whole = exact == exact.to_integral_value()
        assert not whole or abs(exact) >= AMOUNT_LIMIT or len(text) > 40
    else:
        assert parsed == exact


@given(_ATOMIC)
def test_the_caller_s_decimal_context_changes_nothing(atomic: int) -> None:
    with decimal.localcontext(prec=2, rounding=decimal.ROUND_UP):
        assert parse_credits(format_credits(atomic)) == atomic


@given(st.text(max_size=12))
def test_no_text_makes_anything_but_an_amount_or_a_refusal(text: str) -> None:
    with suppress(InvalidAmount):
        assert isinstance(parse_credits(text), int)


@pytest.mark.parametrize(
    "text",
    [
        *["", " 1", "1 ", "1_000", "+1", ".5", "5.", "1,5", "0x10", "1e", "--1"],
        *["NaN", "Infinity", "-Infinity", "sNaN", "\u0661", "1\n", "1e1000", "²"],
        *["0.0000001", "1.0000005", "1e-7", str(AMOUNT_LIMIT), "4611686018427.387904"],
        *["9" * 41, "0." + "1" * 41],
    ],
)
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(InvalidAmount):
        parse_credits(text)


@pytest.mark.parametrize("number", [0.5, 1.0, float("nan"), True, None, b"1"])
def test_what_is_no_exact_number_is_refused(number: object) -> None:
    with pytest.raises(InvalidAmount):
        parse_decimal(number, 6)  # type: ignore[arg-type]


def test_a_number_of_thousands_of_digits_is_refused_and_does_not_crash() -> None:
    with pytest.raises(InvalidAmount):
        parse_credits(10**5000)
    with pytest.raises(InvalidAmount):
        Amount(10**5000, CREDIT)


@pytest.mark.parametrize(
    ("number", "atomic"),
    [
        ("4.5", 4_500_000),
        (3, 3_000_000),
        (Decimal("0.000001"), 1),
        ("-2", -2_000_000),
        ("1e3", 1_000_000_000),
        (Decimal("1E+3"), 1_000_000_000),
        ("007", 7_000_000),
        ("0", 0),
        ("-0", 0),
        ("4611686018427.387903", AMOUNT_LIMIT - 1),
    ],
)
def test_amounts_as_people_write_them(number: str | int | Decimal, atomic: int) -> None:
    assert parse_credits(number) == atomic


@pytest.mark.parametrize(
    ("atomic", "credits_", "dollars"),
    [
        (1, "0.000001", "$0.000001"),
        (50_000, "0.05", "$0.05"),
        (5_000_000, "5", "$5.00"),
        (10_500_000, "10.5", "$10.50"),
        (1_000_000_000, "1000", "$1000.00"),
        (0, "0", "$0.00"),
    ],
)
def test_amounts_as_people_read_them(atomic: int, credits_: str, dollars: str) -> None:
    assert format_credits(atomic) == credits_
    assert format_usdc(atomic) == dollars


@pytest.mark.parametrize("atomic", [0, -1, AMOUNT_LIMIT, 1.0, True, Decimal(1), "1"])
def test_an_amount_is_a_positive_whole_number_below_the_limit(atomic: int) -> None:
    with pytest.raises(InvalidAmount):
        Amount(atomic, USDC)


def test_no_float_is_written_in_the_money_core() -> None:
    root = Path(tallystick.__file__).parent
    files = [one for name in _MONEY_CORE for one in _python_files(root / name)]
    assert len(files) > 10
    found = [
        f"{file.relative_to(root)}:{node.lineno}"
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if (isinstance(node, ast.Constant) and isinstance(node.value, float))
        or (isinstance(node, ast.Name) and node.id == "float")
        or (isinstance(node, ast.BinOp) and _divides(node))
    ]
    assert found == []


def _divides(node: ast.BinOp) -> bool:
    """Whether it makes a fraction; ``path / "name"`` and ``a // b`` do not."""
    text = isinstance(node.right, ast.Constant) and isinstance(node.right.value, str)
    joins = text or isinstance(node.right, ast.JoinedStr)
    return isinstance(node.op, ast.Div) and not joins


def _python_files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(path.rglob("*.py"))
