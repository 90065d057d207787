"""Figures as Prometheus's library takes them, with our prefix."""

from collections.abc import Mapping

from prometheus_client.metrics_core import GaugeMetricFamily, Metric


def gauge(name: str, words: str, value: int | None) -> Metric:
    """Without a value when it is not known: that is not zero."""
    made = GaugeMetricFamily(f"tallystick_{name}", words)
    if value is not None:
        made.add_metric([], value)
    return made


def gauges(
    name: str, words: str, labels: list[str], values: Mapping[tuple[str], int]
) -> Metric:
    """One for each of the labels' values."""
    made = GaugeMetricFamily(f"tallystick_{name}", words, labels=labels)
    for which, value in values.items():
        made.add_metric(which, value)
    return made
