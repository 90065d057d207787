import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.catalog.lines import LineIndex, Path

TEXT = '''\
# [catalog] in a comment is none
title = """
[feature]
price = 1
""" # the end
array = [
  "[feature]", # ]
  ["a"],
]
"quoted key" = 1
a.b.c = 2

[catalog]            # with a comment
slug = "x # [y]"

[[feature]]
slug = "a"
note = \'\'\'
[[feature]]\'\'\'

[feature.parameters]
one = { type = "list" }

[[ feature ]]
slug = "b"
  [[feature.tier]]
  up_to = 1
  [[feature.tier]]
  up_to = 2
[feature."parameters"]
two = { type = "list" }
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("title",), 2),
        (("array",), 6),
        (("array", 1), 6),
        (("quoted key",), 10),
        (("a", "b", "c"), 11),
        (("a", "b"), 11),
        (("catalog",), 13),
        (("catalog", "slug"), 14),
        (("catalog", "missing"), 13),
        (("feature", 0), 16),
        (("feature", 0, "slug"), 17),
        (("feature", 0, "note"), 18),
        (("feature", 0, "parameters"), 21),
        (("feature", 0, "parameters", "one"), 22),
        (("feature", 0, "parameters", "one", "type"), 22),
        (("feature", 1), 24),
        (("feature", 1, "slug"), 25),
        (("feature", 1, "tier", 0, "up_to"), 27),
        (("feature", 1, "tier", 1, "up_to"), 29),
        (("feature", 1, "parameters", "two"), 31),
        (("nowhere",), None),
        ((), None),
    ],
)
def test_a_key_is_found_on_its_line(path: Path, line: int | None) -> None:
    tomllib.loads(TEXT)
    assert LineIndex(TEXT).line_of(path) == line


@given(st.text(st.sampled_from("[]{}\"'=#ab.\n \\,"), max_size=200))
def test_no_text_breaks_the_search(text: str) -> None:
    line = LineIndex(text).line_of(("a", 0, "b"))
    assert line is None or 1 <= line <= len(text.splitlines())
