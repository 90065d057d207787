"""Figures as lines for a terminal, or as a table for docs/campaigns.md."""

from collections.abc import Iterator, Sequence

from bench.figures import Figure


def lines(figures: Sequence[Figure]) -> Iterator[str]:
    """The verdict and the ratio of each, and below it what was measured."""
    for one in figures:
        target = f" (target: {_target(one)})" if one.target is not None else ""
        yield f"{_verdict(one):5} {one.id:26} {one.ratio:8.3g}{target}  {one.words}"
        yield (
            f"      {_number(one.value)} against {_number(one.baseline)} {one.unit},"
            f" {len(one.values)} rounds, spread {one.spread:.0%}{_more(one)}"
        )


def table(figures: Sequence[Figure]) -> Iterator[str]:
    """The same as a table in Markdown."""
    yield "| Figure | What | Ratio | Target | | Measured, baseline | Spread |"
    yield "|---|---|---|---|---|---|---|"
    for one in figures:
        yield (
            f"| {one.id} | {one.words} | {one.ratio:.3g} | {_target(one)} |"
            f" {_verdict(one)} | {_number(one.value)}, {_number(one.baseline)}"
            f" {one.unit}{_more(one)} | {one.spread:.0%} |"
        )


def _verdict(one: Figure) -> str:
    if one.target is None:
        return "told"
    return "ok" if one.ok else "SHORT"


def _target(one: Figure) -> str:
    if one.target is None:
        return ""
    return f"{'≤' if one.at_most else '≥'} {one.target:g}"


def _more(one: Figure) -> str:
    return "".join(
        f", {name.replace('_', ' ')} {_number(value)}"
        for name, value in one.more.items()
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
