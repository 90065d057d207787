"""The machine as properties: what may never follow, whatever the chain shows."""

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.payments.machine import (
    CREDITABLE,
    EDGES,
    Act,
    Decision,
    Look,
    Rehearsal,
    decide,
)
from tallystick.payments.models.topups import (
    OPEN_STATES,
    PAID_STATES,
    PENDING_STATES,
    TopUpState,
)
from tallystick.x402 import reasons

S = TopUpState
VALID_BEFORE = 1_000
LATER = VALID_BEFORE + 1
REHEARSALS = (None, *Rehearsal)
UNDECIDED = (S.CLAIMED, S.SIGNED, S.WATCH)


def every_look() -> list[Look]:
    """Each kind of look that there is, times taken on and around the window's end."""
    times = (VALID_BEFORE - 1, VALID_BEFORE, LATER)
    flags = (False, True)
    return [
        Look(
            head,
            final,
            captures=captures,
            is_exact=exact,
            is_spent=spent or spent_final,
            is_spent_at_finalized=spent_final,
            rehearsal=rehearsal,
            reason="why" if rehearsal == Rehearsal.REFUSED else None,
            own_is_dead=dead,
        )
        for head, final, captures, exact, spent, spent_final, rehearsal, dead in product(
            times, (None, *times), (0, 1, 2), flags, flags, flags, REHEARSALS, flags
        )
    ]


LOOKS = every_look()
looks = st.builds(
    Look,
    st.integers(0, 2**40),
    st.none() | st.integers(0, 2**40),
    captures=st.integers(0, 3),
    is_exact=st.booleans(),
    is_spent=st.booleans(),
    is_spent_at_finalized=st.booleans(),
    rehearsal=st.sampled_from(REHEARSALS),
    reason=st.none() | st.just("why"),
    own_is_dead=st.booleans(),
)


def test_the_looks_are_all_of_them() -> None:
    assert len(LOOKS) == 3 * 4 * 3 * 2 * 2 * 2 * 5 * 2


@pytest.mark.parametrize("state", OPEN_STATES)
def test_every_decision_follows_an_edge(state: TopUpState) -> None:
    after = {Act.SIGN: S.SIGNED, Act.CREDIT: S.CREDITED}
    for look in LOOKS:
        found = decide(state, VALID_BEFORE, look)
        target = found.state if found.act == Act.MOVE else after.get(found.act)
        assert target is None or target in EDGES[state], (look, found)
        assert (found.state is not None) == (found.act == Act.MOVE)


@given(st.sampled_from(OPEN_STATES), st.integers(0, 2**40), looks)
def test_every_decision_follows_an_edge_at_any_time(
    state: TopUpState, valid_before: int, look: Look
) -> None:
    found = decide(state, valid_before, look)
    if found.act == Act.MOVE:
        assert found.state in EDGES[state]


@given(looks, st.integers(0, 2**40))
def test_what_is_signed_is_never_rejected(look: Look, valid_before: int) -> None:
    found = decide(S.SIGNED, valid_before, look)
    assert found.state not in {S.REJECTED, S.CLAIMED}
    assert found.act != Act.SIGN, "one transaction at a time"


def test_no_edge_forgets_a_signature_that_is_out() -> None:
    assert S.REJECTED not in EDGES[S.SIGNED] | EDGES[S.WATCH]
    assert S.CLAIMED not in set().union(*EDGES.values())


@given(st.sampled_from(OPEN_STATES), st.integers(0, 2**40), looks)
def test_credit_comes_from_one_exact_capture_and_from_nothing_else(
    state: TopUpState, valid_before: int, look: Look
) -> None:
    found = decide(state, valid_before, look)
    assert (found.act == Act.CREDIT) == (look.captures == 1 and look.is_exact)


def test_only_credited_is_reached_from_unpaid_states() -> None:
    for state, targets in EDGES.items():
        if state not in PAID_STATES:
            assert not targets & {S.SAFE, S.FINAL, S.REVERSED}, state
    assert EDGES[S.CREDITED] & set(PAID_STATES) == {S.SAFE}, "never credited twice"
    assert not set(CREDITABLE) & set(PAID_STATES), "a paid one only moves"


def test_evidence_wins_from_every_uncredited_state() -> None:
    assert set(CREDITABLE) == {*UNDECIDED, S.REJECTED, S.EXPIRED}


@pytest.mark.parametrize("state", OPEN_STATES)
def test_contradictory_evidence_goes_to_a_person(state: TopUpState) -> None:
    for captures, exact in ((1, False), (2, False), (2, True)):
        look = Look(1, None, captures=captures, is_exact=exact)
        found = decide(state, VALID_BEFORE, look)
        assert (found.act, found.state) == (Act.MOVE, S.QUARANTINE)


@pytest.mark.parametrize("state", [S.SIGNED, S.WATCH])
@given(head=st.integers(0, 2**60), final=st.none() | st.integers(0, VALID_BEFORE - 1))
def test_time_alone_ends_nothing_that_may_be_out_before_it_is_final(
    state: TopUpState, head: int, final: int | None
) -> None:
    for rehearsal in REHEARSALS:
        found = decide(state, VALID_BEFORE, Look(head, final, rehearsal=rehearsal))
        assert found.act != Act.MOVE, "a late head proves nothing"


@pytest.mark.parametrize("state", [S.SIGNED, S.WATCH])
def test_a_window_that_closed_at_finalized_ends_it(state: TopUpState) -> None:
    found = decide(state, VALID_BEFORE, Look(LATER, VALID_BEFORE))
    assert found == Decision(Act.MOVE, S.EXPIRED, reasons.VALID_BEFORE)


@pytest.mark.parametrize("state", [S.SIGNED, S.WATCH])
def test_a_nonce_that_is_gone_ends_it_only_when_that_is_final(
    state: TopUpState,
) -> None:
    not_yet = decide(state, VALID_BEFORE, Look(1, 1, is_spent=True))
    assert not_yet.act != Act.MOVE
    final = Look(1, 1, is_spent=True, is_spent_at_finalized=True)
    assert decide(state, VALID_BEFORE, final).state == S.CANCELED


def test_before_anything_is_signed_a_gone_nonce_is_refused_at_once() -> None:
    look = Look(1, None, is_spent=True, rehearsal=Rehearsal.NONCE_USED)
    found = decide(S.CLAIMED, VALID_BEFORE, look)
    assert (found.state, found.reason) == (S.REJECTED, reasons.NONCE_ALREADY_USED)


def test_a_used_nonce_without_evidence_is_a_question_and_no_refusal() -> None:
    look = Look(1, None, rehearsal=Rehearsal.NONCE_USED)
    assert decide(S.CLAIMED, VALID_BEFORE, look).state == S.WATCH


def test_nothing_is_signed_without_a_rehearsal_that_passed() -> None:
    for state in OPEN_STATES:
        for look in LOOKS:
            if decide(state, VALID_BEFORE, look).act == Act.SIGN:
                assert look.rehearsal == Rehearsal.OK
                assert look.head_at < VALID_BEFORE
                assert not look.captures
                assert not look.is_spent


def test_an_unclear_rehearsal_waits() -> None:
    for rehearsal in (None, Rehearsal.UNCLEAR):
        found = decide(S.CLAIMED, VALID_BEFORE, Look(1, None, rehearsal=rehearsal))
        assert found == Decision(Act.WAIT, keeps_lane=True)


def test_a_wallet_waits_only_for_what_may_still_be_settled() -> None:
    for state in OPEN_STATES:
        for look in LOOKS:
            found = decide(state, VALID_BEFORE, look)
            if found.keeps_lane:
                assert look.head_at < VALID_BEFORE
                assert not look.is_spent
                assert found.state in {None, S.WATCH}
    dead = Look(1, None, own_is_dead=True)
    assert decide(S.SIGNED, VALID_BEFORE, dead).keeps_lane, "it is signed again"


def test_what_was_taken_back_is_watched_whatever_the_chain_shows() -> None:
    """Only from there it may be credited again."""
    for look in LOOKS:
        found = decide(S.REVERSED, VALID_BEFORE, look)
        assert (found.act, found.state) == (Act.MOVE, S.WATCH)


def test_nothing_is_signed_beside_what_may_still_be_mined() -> None:
    for state in (S.SIGNED, S.WATCH):
        for look in LOOKS:
            if not look.own_is_dead:
                assert decide(state, VALID_BEFORE, look).act != Act.SIGN


def test_states_that_are_over_need_no_decision() -> None:
    for state in set(TopUpState) - set(PENDING_STATES):
        with pytest.raises(AssertionError, match="needs no decision"):
            decide(state, VALID_BEFORE, Look(1, None))


@pytest.mark.parametrize("state", UNDECIDED)
def test_unclear_evidence_is_for_a_person_unless_the_money_is_told(
    state: TopUpState,
) -> None:
    """Of a permit: whatever else is known, nothing is guessed, and nothing is signed."""
    for look in LOOKS:
        unclear = decide(state, VALID_BEFORE, replace(look, is_unclear=True))
        if look.captures:
            assert unclear == decide(state, VALID_BEFORE, look)
        else:
            expected = Decision(Act.MOVE, S.QUARANTINE, "unclear_evidence")
            assert unclear == expected
