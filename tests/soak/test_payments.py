"""Whatever goes wrong at once, every cent that arrives is credited once."""

import pytest

from tests.soak.campaigns import soak

KEYS = ["ok", "seed", "payments", "honest", "honest_served", "permits_paid"]
KEYS += ["permits_meant", "permits_served", "attacks", "accepted"]
KEYS += ["lost", "double", "findings", "reorgs", "restarts", "faults"]


@pytest.mark.timeout(300)
def test_faults_attacks_and_kills_lose_and_double_no_payment() -> None:
    code, verdict, _ = soak("payments", "--seconds", "5", "--seed", "9")
    assert (code, verdict["ok"]) == (0, True), verdict
    assert list(verdict) == KEYS
    assert verdict["seed"] == 9
    assert verdict["payments"] >= 5
    assert verdict["honest_served"] == verdict["honest"] >= 8
    assert verdict["permits_served"] == verdict["permits_meant"] >= 4
    assert verdict["permits_paid"] >= 3
    assert verdict["attacks"] >= 30
    assert verdict["reorgs"] + verdict["restarts"] + verdict["faults"] > 0
    for name in ("accepted", "lost", "double"):
        assert verdict[name] == 0


@pytest.mark.timeout(300)
def test_a_transfer_without_its_row_and_a_credit_beyond_its_price_are_found() -> None:
    """Else the campaign would prove nothing."""
    code, verdict, _ = soak("payments", "--seconds", "1", "--seed", "8", "--sabotage")
    assert (code, verdict["ok"]) == (1, False)
    assert verdict["lost"] == 1
    assert any("was granted 10000001" in one for one in verdict["findings"])
    assert any(one.startswith("I16") for one in verdict["findings"])
