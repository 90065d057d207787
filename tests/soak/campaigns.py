"""A campaign as ``scripts/soak`` starts it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]


class Ended(NamedTuple):
    """How it ended: ``told`` are the lines of its progress."""

    code: int
    verdict: dict[str, Any]
    told: list[str]


def soak(*arguments: str) -> Ended:
    ran = subprocess.run(
        [sys.executable, "-m", "soak", *arguments, "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout, ran.stderr
    told = [line for line in ran.stderr.splitlines() if line.startswith("…")]
    return Ended(ran.returncode, json.loads(ran.stdout), told)
