"""What is done for an open nonce: the whole table of it."""

from itertools import product

from tallystick.payments.relaying.efforts import (
    MOST_ATTEMPTS,
    MOST_WITH_FILLERS,
    Effort,
    Standing,
    effort_for,
)

FLAGS = (False, True)
EVERY = [
    Standing(attempts, *flags)
    for attempts in (1, MOST_ATTEMPTS, MOST_WITH_FILLERS)
    for flags in product(FLAGS, repeat=5)
]


def test_a_settlement_that_would_revert_is_never_sent_or_signed_again() -> None:
    for one in EVERY:
        if one.would_revert and not one.is_filler:
            assert effort_for(one) in {Effort.WAIT, Effort.FILL}, one


def test_only_a_settlement_that_has_died_gives_its_nonce_away() -> None:
    for one in EVERY:
        if effort_for(one) == Effort.FILL:
            assert one.would_revert, one
            assert not one.is_filler, one


def test_a_dead_settlement_holds_up_nobody() -> None:
    for one in EVERY:
        is_dead = one.would_revert and not one.is_filler
        if is_dead and not one.is_last and one.attempts < MOST_WITH_FILLERS:
            assert effort_for(one) == Effort.FILL, one


def test_what_is_stuck_is_signed_again_within_bounds() -> None:
    for one in EVERY:
        most = MOST_WITH_FILLERS if one.is_filler else MOST_ATTEMPTS
        is_replaced = effort_for(one) == Effort.REPLACE
        is_alive = one.is_filler or not one.would_revert
        assert is_replaced == (is_alive and one.is_stuck and one.attempts < most), one


def test_what_has_reached_its_bounds_is_still_sent_again() -> None:
    worn = Standing(MOST_ATTEMPTS, is_stuck=True, is_due=True)
    assert effort_for(worn) == Effort.SEND
    assert effort_for(Standing(1)) == Effort.WAIT
