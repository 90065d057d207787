"""``scripts/bench NAME… [--json]``."""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable

from bench import ledger
from bench.figures import Figure
from bench.plan import Plan

BENCHMARKS: dict[str, Callable[[Plan], Awaitable[list[Figure]]]] = {
    "ledger": ledger.run,
}


def main() -> None:
    """Measure what was asked for, and say how it compares."""
    asked = _arguments()
    plan = Plan(asked.rounds, asked.seconds, asked.customers)
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
        "--customers", type=int, default=usual.customers, help="at the most"
    )
    return parser.parse_args()


def _print(one: Figure) -> None:
    verdict = "told" if one.target is None else "ok" if one.ok else "SHORT"
    target = "" if one.target is None else f" (target {one.target:g})"
    print(f"{verdict:5} {one.id:4} {one.ratio:8.2f}{target}  {one.words}")
    print(
        f"           {one.value:,.0f} against {one.baseline:,.0f} {one.unit},"
        f" {len(one.values)} rounds, spread {one.spread:.0%}"
    )


if __name__ == "__main__":
    main()
