import time

import pytest

from tallystick.catalog.patterns import (
    LONGEST_TEXT,
    PatternRefused,
    matches,
    require_readable,
)


def test_a_pattern_matches_all_of_a_text() -> None:
    assert matches("glossy|matt", "matt")
    for text in ("mat", "matte", "a matt", "matt\n", "glossymatt", ""):
        assert not matches("glossy|matt", text)


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|aa)+b", "(.*)*b", "a*a*a*a*a*b"])
def test_no_text_makes_a_pattern_hang(pattern: str) -> None:
    require_readable(pattern)
    began = time.monotonic()
    assert not matches(pattern, "a" * LONGEST_TEXT)
    assert time.monotonic() - began < 1


def test_a_longer_text_matches_nothing() -> None:
    assert matches("a*", "a" * LONGEST_TEXT)
    assert not matches("a*", "a" * (LONGEST_TEXT + 1))


@pytest.mark.parametrize(
    "pattern", ["(", "a)|(b", "(?x)a # b", r"(a)\1", "a{10000000}"]
)
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(PatternRefused):
        require_readable(pattern)
