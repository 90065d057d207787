"""What a transaction belongs to is read back as it was written."""

import pytest

from tallystick.ledger.references import number_in, reference_to

LARGEST = (1 << 63) - 1


@pytest.mark.parametrize("number", [0, 7, LARGEST])
def test_a_number_is_read_back_from_its_reference(number: int) -> None:
    reference = reference_to("topup", number)
    assert reference == f"topup:{number}"
    assert number_in(reference, "topup") == number
    assert number_in(reference, "hold") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "topup",
        "topup:",
        "topup:-1",
        "topup:1 ",
        "my topup:1",
        "topup:1x",
        "topup:٤",
        f"topup:{LARGEST + 1}",
        "topup:00000000000000000001",
    ],
)
def test_any_other_text_names_no_number(text: str) -> None:
    """Whoever books may choose it, so it must not fail what reads it."""
    assert number_in(text, "topup") is None


def test_a_kind_is_taken_by_its_letters() -> None:
    assert number_in("axb:1", "a.b") is None
    assert number_in("a.b:1", "a.b") == 1
