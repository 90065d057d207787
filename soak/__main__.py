"""``scripts/soak NAME --seconds N [--seed S] [--json]``."""

import argparse
import json
import random
import sys

from soak import crash, history, ledger, payments, powercut, races
from soak.plan import Plan

_CAMPAIGNS = {
    "crash": crash.run,
    "history": history.run,
    "ledger": ledger.run,
    "payments": payments.run,
    "powercut": powercut.run,
    "races": races.run,
}


def main() -> None:
    """Run the campaign and end with one verdict; exit 1 if it is a bad one."""
    asked = _arguments()
    seed = random.randrange(1 << 32) if asked.seed is None else asked.seed
    plan = Plan(asked.seconds, seed, asked.database, asked.sabotage)
    verdict = _CAMPAIGNS[asked.name](plan)
    if asked.json:
        print(json.dumps(verdict))
    else:
        for name, value in verdict.items():
            print(f"{name:14} {value}")
    sys.exit(0 if verdict["ok"] else 1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("name", choices=list(_CAMPAIGNS))
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--database", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument(
        "--sabotage",
        action="store_true",
        help="spoil something, as the campaign says: then the verdict must be bad",
    )
    asked = parser.parse_args()
    if asked.seconds <= 0:
        parser.error(
            "--seconds must be more than 0: a campaign of no time proves nothing"
        )
    if asked.name == "powercut" and asked.database != "sqlite":
        parser.error("powercut is of SQLite alone")
    return asked


if __name__ == "__main__":
    main()
