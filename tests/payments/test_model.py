"""The state machine, explored whole; and ten bugs in it, each of which is found."""

import functools
from dataclasses import replace

import pytest

from tallystick.chain import witness
from tallystick.payments.machine import (
    CREDITABLE,
    Act,
    Decision,
    Look,
    Rehearsal,
    decide,
    heed,
)
from tallystick.payments.models.topups import TopUpState
from tests.payments.model import (
    Exploration,
    Rules,
    World,
    explore,
    follows_an_edge,
)

S = TopUpState
_YES = witness.Testimony.AGREES


@functools.cache
def _sound() -> Exploration:
    return explore(Rules())


def test_in_every_reachable_world_money_and_books_agree() -> None:
    found = _sound()
    assert found.wrong is None, found.path
    assert len(found.seen) > 5_000, "it is a real exploration"
    reached = {one.state for one in found.seen}
    # SAFE is CREDITED a little later.
    assert reached == set(TopUpState) - {S.SAFE}


def test_every_change_of_state_follows_an_edge() -> None:
    found = _sound()
    for world, (before, name) in found.seen.items():
        if before is not None and name != "observe":  # which may take two at once
            confirmed = {before.state, world.state} == {S.CREDITED, S.FINAL}
            assert confirmed or follows_an_edge(before.state, world.state), name


def _always(state: TopUpState, after: TopUpState, *when: str) -> Rules:
    """A server that moves there as soon as the look says one of these."""

    def wrong(now: TopUpState, valid_before: int, look: Look) -> Decision:
        told = {
            "late": look.head_at >= valid_before,
            "used": look.rehearsal == Rehearsal.NONCE_USED and not look.captures,
            "spent": look.is_spent,
            "refused": look.rehearsal == Rehearsal.REFUSED,
        }
        if now == state and any(told[one] for one in when) and not look.captures:
            return Decision(Act.MOVE, after)
        return decide(now, valid_before, look)

    return Rules(decide=wrong)


def _credits_anything(state: TopUpState, valid_before: int, look: Look) -> Decision:
    if look.captures:
        return Decision(Act.CREDIT)
    return decide(state, valid_before, look)


def _signs_beside(state: TopUpState, valid_before: int, look: Look) -> Decision:
    return decide(state, valid_before, replace(look, own_is_dead=True))


def _takes_silence_for_yes(said: witness.Testimony) -> Decision:
    return heed(_YES if said == witness.Testimony.SILENT else said)


def _shrugs_off_a_fork(said: witness.Testimony) -> Decision:
    return heed(_YES if said == witness.Testimony.DISAGREES else said)


BUGS = {
    "a signed payment expires by the newest block": _always(
        S.SIGNED, S.EXPIRED, "late"
    ),
    "a signed payment is rejected when its nonce is gone": _always(
        S.SIGNED, S.REJECTED, "spent"
    ),
    "a watched payment expires by the newest block": _always(
        S.WATCH, S.EXPIRED, "late"
    ),
    "a cancellation is believed before it is final": _always(
        S.WATCH, S.CANCELED, "spent"
    ),
    "whatever was captured is credited": Rules(decide=_credits_anything),
    "a new transaction is signed beside one that may be mined": Rules(
        decide=_signs_beside
    ),
    "neither the state nor a key guards a credit": Rules(
        creditable=(*CREDITABLE, S.CREDITED), knows_keys=False
    ),
    "evidence does not win from a rejection": Rules(
        creditable=tuple(one for one in CREDITABLE if one != S.REJECTED), suspends=False
    ),
    "an old look is acted on whatever has happened since": Rules(checks_state=False),
    "a replaced block is not taken back": Rules(takes_back=False),
    "what was taken back is credited under its old key": Rules(
        counts_generations=False
    ),
    "what is signed is sent before it is stored": Rules(stores_bytes=False),
    "a large payment is credited without asking the witness": Rules(asks_witness=False),
    "a witness that says nothing counts as one that agrees": Rules(
        heed=_takes_silence_for_yes
    ),
    "a fork of the witness counts as its agreement": Rules(heed=_shrugs_off_a_fork),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_seeded_bug_is_found(bug: str) -> None:
    found = explore(BUGS[bug])
    assert found.wrong is not None, f"{len(found.seen)} worlds, and nothing wrong"


def test_there_are_ten_bugs_and_more() -> None:
    assert len(BUGS) >= 10
    assert World() == World(), "worlds are compared by what they are"
