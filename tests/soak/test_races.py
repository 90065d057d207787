"""Who meddles with a payment that was checked gets nothing and costs us nothing."""

import pytest

from tests.soak.campaigns import soak

KEYS = ["ok", "seed", "database", "rounds"]
KEYS += ["honest", "honest_credited", "front_run", "front_run_credited"]
KEYS += ["cancelled", "cancelled_credited", "drained", "drained_credited"]
KEYS += ["sent", "reverted"]
KEYS += ["late_races", "late_credited", "late_sent", "late_reverted"]


def test_what_is_cancelled_or_drained_is_not_sent_and_what_a_stranger_sent_is_credited() -> (
    None
):
    code, verdict, _ = soak("races", "--seconds", "3", "--seed", "5")
    assert (code, verdict["ok"]) == (0, True), verdict
    assert list(verdict) == KEYS
    for kind in ("honest", "front_run"):
        assert verdict[f"{kind}_credited"] == verdict[kind] >= 5
    for kind in ("cancelled", "drained"):
        assert verdict[f"{kind}_credited"] == 0 < verdict[kind]
    assert verdict["reverted"] == 0 < verdict["sent"]


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_credit_too_many_makes_the_verdict_bad(database: str) -> None:
    code, verdict, _ = soak(
        *("races", "--seconds", "0.1", "--seed", "6", "--sabotage"),
        *("--database", database),
    )
    assert (code, verdict["ok"]) == (1, False)
    assert any("was granted" in one for one in verdict["wrong"]), verdict
