"""``scripts/bench NAME… [--json|--markdown]``."""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable

from bench import ledger, scale
from bench.figures import Figure
from bench.plan import POSTGRES, SQLITE, Plan
from bench.report import lines, table

BENCHMARKS: dict[str, Callable[[Plan], Awaitable[list[Figure]]]] = {
    "ledger": ledger.run,
    "scale": scale.run,
}


def main() -> None:
    """Measure what was asked for, and say how it compares."""
    asked = _arguments()
    plan = Plan(
        asked.rounds,
        asked.seconds,
        asked.customers,
        asked.entries,
        (asked.database,) if asked.database else (POSTGRES, SQLITE),
        tuple(asked.postgres),
    )
    figures = asyncio.run(_measure(asked.names, plan))
    if asked.json:
        json.dump([one.document() for one in figures], sys.stdout, indent=2)
        print()
        return
    for line in (table if asked.markdown else lines)(figures):
        print(line)


async def _measure(names: list[str], plan: Plan) -> list[Figure]:
    return [one for name in names for one in await BENCHMARKS[name](plan)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    usual = Plan()
    parser.add_argument("names", nargs="+", choices=BENCHMARKS, metavar="NAME")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--markdown", action="store_true", help="print a table")
    parser.add_argument("--rounds", type=int, default=usual.rounds, help="of each side")
    parser.add_argument(
        "--seconds", type=float, default=usual.seconds, help="of each round"
    )
    parser.add_argument(
        "--customers", type=int, help="ledger: 10,000, scale: 1,000,000 if not given"
    )
    parser.add_argument("--entries", type=int, help="scale: 10,000,000 if not given")
    parser.add_argument(
        "--database", choices=(POSTGRES, SQLITE), help="both if not given"
    )
    parser.add_argument(
        "--postgres",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a setting of PostgreSQL that is not its own, such as shared_buffers=2GB",
    )
    asked = parser.parse_args()
    given = (asked.rounds, asked.seconds, asked.customers, asked.entries)
    if any(one is not None and one <= 0 for one in given):
        parser.error("rounds, seconds, customers and entries must be more than 0")
    return asked


if __name__ == "__main__":
    main()
