"""Regular expressions of a catalog, on an engine that cannot be made to hang.

Python's own engine goes back and tries again: a pattern such as ``(a+)+b`` needs hours
for thirty characters, and a caller chooses them. The one in pydantic's core takes time
in proportion to the text. It knows no look-around and no back-references.
"""

from functools import lru_cache

from pydantic_core import SchemaError, SchemaValidator, core_schema

LONGEST_TEXT = 1_024
"""Characters of a text that is matched; a longer one matches no pattern."""


class PatternRefused(ValueError):
    """What the engine cannot read; the words say where it stumbled."""


def require_readable(pattern: str) -> None:
    """Raise ``PatternRefused`` for what is no regular expression."""
    # Alone first: "a)|(b" would be one inside of the group that surrounds it.
    _compile(pattern)
    _whole(pattern)


def matches(pattern: str, text: str) -> bool:
    """Whether all of the text, at most ``LONGEST_TEXT`` characters, is as it says."""
    return _whole(pattern).isinstance_python(text)


@lru_cache(maxsize=256)
def _whole(pattern: str) -> SchemaValidator:
    return _compile(anchored(pattern))


def anchored(pattern: str) -> str:
    """The pattern as JSON Schema needs it, where it may match anywhere."""
    return f"^(?:{pattern})$"


def _compile(pattern: str) -> SchemaValidator:
    try:
        return SchemaValidator(
            core_schema.str_schema(
                pattern=pattern, max_length=LONGEST_TEXT, regex_engine="rust-regex"
            )
        )
    except SchemaError as error:
        words = str(error).rstrip().splitlines()[-1].strip()
        raise PatternRefused(words.removeprefix("error: ")) from error
