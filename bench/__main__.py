"""``scripts/bench NAME… [--json]``."""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable

from bench import ledger, scale
from bench.figures import Figure
from bench.plan import POSTGRES, SQLITE, Plan

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
    )
    figures = asyncio.run(_measure(asked.names, plan))
    if asked.json:
        json.dump([one.document() for one in figures], sys.stdout, indent=2)
        print()
        return
    for one in figures:
        _print(one)


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
    parser.add_argument("--json", action="store_true", help="print JSON")
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
    return parser.parse_args()


def _print(one: Figure) -> None:
    verdict = "told" if one.target is None else "ok" if one.ok else "SHORT"
    bound = "at most" if one.at_most else "at least"
    target = "" if one.target is None else f" (target: {bound} {one.target:g})"
    print(f"{verdict:5} {one.id:26} {one.ratio:8.3g}{target}  {one.words}")
    more = "".join(f", {name} {value:,.4g}" for name, value in one.more.items())
    print(
        f"      {one.value:,.4g} against {one.baseline:,.4g} {one.unit},"
        f" {len(one.values)} rounds, spread {one.spread:.0%}{more}"
    )


if __name__ == "__main__":
    main()
