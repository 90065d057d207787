"""Why a mutant may survive: mutation/survivors.toml, told by hand.

A survivor is known by its file, its function and a part of what it changed, because
mutmut's numbers shift with every edit. ``anywhere`` is for what is so in every file.
"""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

_TOLD = Path(__file__).with_name("survivors.toml")


@dataclass
class Reason:
    """Why these survive, and how many there are."""

    words: str
    survivors: list[str] = field(default_factory=list)


class Reasons:
    """The reasons, and which survivors have none."""

    def __init__(self, told: Path = _TOLD) -> None:
        self._told = tomllib.loads(told.read_text())["reason"]
        self.given = [Reason(one["why"]) for one in self._told]
        self.missing: list[str] = []

    def explain(self, file: str, function: str, change: str) -> bool:
        """Count the survivor under its reason, or among those that have none.

        Whether it has one.
        """
        shown = f"{file} {function}: {change}"
        for told, reason in zip(self._told, self.given, strict=True):
            known = [*told.get("anywhere", ()), *told.get(f"{file} {function}", ())]
            if any(part in change for part in known):
                reason.survivors.append(shown)
                return True
        self.missing.append(shown)
        return False
