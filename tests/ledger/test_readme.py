"""The worked examples of the ledger's README are true."""

import doctest
from pathlib import Path

import tallystick.ledger


def test_the_examples_do_what_they_say() -> None:
    readme = Path(tallystick.ledger.__file__ or "").parent / "README.md"
    outcome = doctest.testfile(str(readme), module_relative=False)
    assert outcome.attempted > 10
    assert outcome.failed == 0
