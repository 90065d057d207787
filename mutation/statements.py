"""SQL that is wrong in one place: mutmut knows Python, and changes no text but its case.

``edits`` says what to change in a file; ``scripts/mutate --sql`` runs the tests for each.
Statements are found by their words, so the text of an error is left alone.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

_IS_SQL = re.compile(r"\b(SELECT|INSERT|UPDATE|DELETE|WHERE|JOIN|ORDER BY)\b|<=|>= \?")
_CLAUSE = re.compile(r"\b(SELECT|SET|WHERE|AND|OR|ON|HAVING|WHEN|BY|FROM|VALUES|AS)\b")
_CONDITIONS = {"WHERE", "AND", "OR", "ON", "HAVING", "WHEN"}
# What stands there, and what is put in its place; a comparison only in a condition.
_COMPARISONS = {"<=": "<", ">=": ">", "<": "<=", ">": ">=", "<>": "=", "=": "<>"}
_SWAPS = (
    (re.compile(r" \+ (?!:)"), " - "),
    (re.compile(r" - "), " + "),
    (re.compile(r"(?<=[ (])-(?=[a-z(])"), ""),
    (re.compile(r"\bIS NOT NULL\b"), "IS NULL"),
    (re.compile(r"\bIS NULL\b"), "IS NOT NULL"),
    (re.compile(r"\bNOT EXISTS\b"), "EXISTS"),
    (re.compile(r"(?<!NOT )\bEXISTS\b"), "NOT EXISTS"),
    (re.compile(r"\bNOT (?=[a-z])"), ""),
    (re.compile(r"\bLEFT JOIN\b"), "JOIN"),
    (re.compile(r"\bUNION ALL\b"), "UNION"),
    (re.compile(r" DESC\b"), ""),
    (re.compile(r", 0\)"), ", 1)"),
    (re.compile(r"^( *)AND\b", re.MULTILINE), r"\1OR"),
    (re.compile(r"^( *)OR\b", re.MULTILINE), r"\1AND"),
)
_CONJUNCT = re.compile(r"^ *(?:AND|OR) ", re.MULTILINE)
_FIRST = re.compile(r"\bWHERE (?=[^\n]*\n *AND )")


@dataclass(frozen=True)
class Edit:
    """A piece of a file and what to put there instead; ``line`` counts from 1."""

    start: int
    end: int
    instead: str
    line: int
    shown: str

    def apply(self, source: str) -> str:
        """The file as it becomes."""
        return source[: self.start] + self.instead + source[self.end :]


def edits(source: str) -> list[Edit]:
    """Every change of every statement in the file, in their order."""
    found = []
    for start, end in _statements(source):
        for at, until, instead in _changes(source[start:end]):
            found.append(_edit(source, start + at, start + until, instead))
    return sorted(set(found), key=lambda one: (one.start, one.end, one.instead))


def _statements(source: str) -> Iterator[tuple[int, int]]:
    """Where the texts that are SQL begin and end."""
    lines = [0]
    for line in source.splitlines(keepends=True):
        lines.append(lines[-1] + len(line.encode()))
    encoded = source.encode()
    tree = ast.parse(source)
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    inside = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for part in ast.walk(node)
        if part is not node
    }
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.JoinedStr) or (
            isinstance(node, ast.Constant) and isinstance(node.value, str)
        )
        if not is_text or id(node) in told | inside:
            continue
        assert isinstance(node, ast.expr)
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        first = lines[node.lineno - 1] + node.col_offset
        last = lines[node.end_lineno - 1] + node.end_col_offset
        start, end = len(encoded[:first].decode()), len(encoded[:last].decode())
        if _IS_SQL.search(source[start:end]):
            yield start, end


def _changes(text: str) -> Iterator[tuple[int, int, str]]:
    for found in re.finditer(r"(?<= )(<=|>=|<>|<|>|=)(?=\s)", text):
        before = _CLAUSE.findall(text[: found.start()])
        if before and before[-1] in _CONDITIONS:
            yield found.start(), found.end(), _COMPARISONS[found[1]]
    for pattern, instead in _SWAPS:
        for found in pattern.finditer(text):
            yield found.start(), found.end(), found.expand(instead)
    for found in _CONJUNCT.finditer(text):
        yield found.start(), _end_of_condition(text, found.end()), ""
    for found in _FIRST.finditer(text):
        end = text.index("\n", found.end())
        if text.count("(", found.end(), end) == text.count(")", found.end(), end):
            yield found.end(), end, "TRUE"


def _end_of_condition(text: str, start: int) -> int:
    """The end of the line, or of a later one, where no parenthesis is open."""
    depth = 0
    for at in range(start, len(text)):
        if text[at] == "(":
            depth += 1
        elif text[at] == ")":
            depth -= 1
            if depth < 0:  # it closes what began before
                return at
        elif text[at] == '"' or (text[at] == "\n" and depth == 0):
            return at
    return len(text)


def _edit(source: str, start: int, end: int, instead: str) -> Edit:
    line = source.count("\n", 0, start) + 1
    first = source.rfind("\n", 0, start) + 1
    last = source.find("\n", end)
    was = " ".join(source[first:last].split())
    became = " ".join((source[first:start] + instead + source[end:last]).split())
    return Edit(start, end, instead, line, f"{was} → {became or 'nothing'}")
