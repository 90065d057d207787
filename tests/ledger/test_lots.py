"""The arithmetic of lots, without a database."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tallystick.kernel.money import AMOUNT_LIMIT, InvalidAmount
from tallystick.ledger import lots
from tallystick.ledger.errors import InsufficientCredits
from tallystick.ledger.lots import Draw, Lot
from tallystick.ledger.lotted import PLAIN, LottedAccount, LotTerms

NOW = 1_000


def lot(
    lot_id: int,
    remaining: int = 10,
    *,
    priority: int = 0,
    bought: bool = False,
    effective: int = 0,
    expires: int | None = None,
) -> Lot:
    return Lot(lot_id, remaining, priority, bought, effective, expires)


def account(*some: Lot, held: int = 0) -> LottedAccount:
    balance = sum(one.remaining for one in some) + held
    return LottedAccount.of(1, (balance, held, 0, 0), some)


def test_priority_burns_before_expiry_before_origin_before_age() -> None:
    ordered = [
        lot(9, priority=-1, bought=True),
        lot(8, expires=2_000),
        lot(7, expires=3_000),
        lot(5),
        lot(6),
        lot(3, bought=True),
        lot(4, bought=True),
        lot(2, priority=1, expires=1_500),
    ]
    shuffled = sorted(ordered, key=lambda one: one.id)
    chosen = lots.choose(shuffled, 80, NOW)
    assert chosen == tuple(Draw(one.id, 10) for one in ordered)


def test_a_draw_takes_no_more_than_it_needs() -> None:
    assert lots.choose([lot(1), lot(2)], 13, NOW) == (Draw(1, 10), Draw(2, 3))
    assert lots.choose([lot(1), lot(2)], 20, NOW) == (Draw(1, 10), Draw(2, 10))
    assert lots.choose([lot(1), lot(2)], 21, NOW) is None


@pytest.mark.parametrize(
    ("effective", "expires", "spendable"),
    [
        (NOW, None, True),
        (NOW + 1, None, False),
        (0, NOW + 1, True),
        (0, NOW, False),
        (0, NOW - 1, False),
    ],
)
def test_a_lot_counts_from_its_first_millisecond_and_not_in_its_last(
    effective: int, expires: int | None, *, spendable: bool
) -> None:
    one = lot(1, effective=effective, expires=expires)
    assert one.is_spendable(NOW) == spendable
    assert lots.available([one], NOW) == (10 if spendable else 0)
    assert (lots.choose([one], 1, NOW) is not None) == spendable


def test_what_is_not_spendable_is_deferred_or_expired() -> None:
    some = [lot(1, 1), lot(2, 2, effective=NOW + 1), lot(3, 4, expires=NOW)]
    assert lots.available(some, NOW) == 1
    assert lots.deferred(some, NOW) == 2
    assert lots.expired(some, NOW) == 4


def test_the_next_change_is_the_nearest_time_ahead_of_a_lot_with_something_left() -> (
    None
):
    some = [
        lot(1, expires=NOW),
        lot(2, 0, expires=NOW + 1),
        lot(3, expires=NOW + 3),
        lot(4, effective=NOW + 2),
    ]
    assert lots.next_change_ms(some, NOW) == NOW + 2
    assert lots.next_change_ms(some, NOW + 2) == NOW + 3
    assert lots.next_change_ms(some, NOW + 3) is None


def test_a_split_takes_the_first_and_leaves_the_rest() -> None:
    draws = [Draw(1, 3), Draw(2, 5)]
    assert lots.split(draws, 0) == ((), tuple(draws))
    assert lots.split(draws, 3) == ((Draw(1, 3),), (Draw(2, 5),))
    assert lots.split(draws, 4) == ((Draw(1, 3), Draw(2, 1)), (Draw(2, 4),))
    assert lots.split(draws, 8) == (tuple(draws), ())
    with pytest.raises(ValueError, match=r"^more was asked"):
        lots.split(draws, 9)


def test_a_refund_returns_what_was_drawn_last_first_and_never_twice() -> None:
    drawn = [Draw(1, 3), Draw(2, 5)]
    assert lots.last_drawn_first(drawn, [], 6) == (Draw(2, 5), Draw(1, 1))
    assert lots.last_drawn_first(drawn, [Draw(2, 4)], 2) == (Draw(2, 1), Draw(1, 1))
    with pytest.raises(ValueError, match=r"^more was asked"):
        lots.last_drawn_first(drawn, [Draw(2, 5)], 4)


def test_what_one_lot_gave_several_times_is_returned_as_often_and_no_more() -> None:
    drawn = [Draw(1, 3), Draw(1, 4)]
    assert lots.last_drawn_first(drawn, [], 7) == (Draw(1, 4), Draw(1, 3))
    assert lots.last_drawn_first(drawn, [Draw(1, 2)], 5) == (Draw(1, 2), Draw(1, 3))
    assert lots.last_drawn_first(drawn, [Draw(1, 5)], 2) == (Draw(1, 2),)
    with pytest.raises(ValueError, match=r"^more was asked"):
        lots.last_drawn_first(drawn, [Draw(1, 2)], 6)


@given(
    st.lists(
        st.tuples(st.integers(1, 99), st.integers(-99, 99)).map(lambda x: Draw(*x))
    )
)
def test_a_row_remembers_every_draw(draws: list[Draw]) -> None:
    kept = [one for one in draws if one.amount]
    total = sum(abs(one.amount) for one in kept)
    packed = lots.pack(kept, total)
    sign = -1 if kept and kept[0].amount < 0 else 1
    assert list(lots.unpack(*packed, sign * total)) == kept


def test_one_lot_is_remembered_by_its_id_alone() -> None:
    assert lots.pack([Draw(5, -3)], 3) == (5, None)
    assert lots.pack([Draw(5, -3), Draw(6, -1)], 4) == (None, "[[5,-3],[6,-1]]")


def test_an_account_that_is_short_stays_as_it_was() -> None:
    one = account(lot(1, 4), lot(2, 5, expires=NOW))
    for verb in (one.spend, one.hold):
        with pytest.raises(InsufficientCredits) as refusal:
            verb(5, NOW)
        assert (refusal.value.required, refusal.value.available) == (5, 4)
    with pytest.raises(InsufficientCredits) as refusal:
        one.take([Draw(1, 1), Draw(2, 6)])
    assert (refusal.value.required, refusal.value.available) == (6, 5)
    assert (one.balance, one.held, one.touched) == (9, 0, set())
    assert {lot_id: found.remaining for lot_id, found in one.lots.items()} == {
        1: 4,
        2: 5,
    }


def test_what_has_expired_is_due_in_burn_order() -> None:
    one = account(
        lot(1, 2, expires=NOW),
        lot(2, 0, expires=NOW),
        lot(3, 3, expires=NOW - 1),
        lot(4, 4, priority=-1, expires=NOW),
        lot(5, expires=NOW + 1),
    )
    assert one.due(NOW) == [Draw(4, 4), Draw(3, 3), Draw(1, 2)]


def test_a_partial_capture_returns_the_rest_to_the_same_lots() -> None:
    one = account(lot(1, 4), lot(2, 5))
    draws = one.hold(7, NOW)
    assert (one.balance, one.held, one.available(NOW)) == (9, 7, 2)
    assert one.unhold(draws, 5) == (Draw(1, 4), Draw(2, 1))
    assert (one.balance, one.held) == (4, 0)
    assert [found.remaining for found in one.lots.values()] == [0, 4]


def test_a_lot_s_terms_make_sense() -> None:
    with pytest.raises(ValueError, match=r"^bought credits never expire$"):
        LotTerms(bought=True, expires_at_ms=5)
    one = account()
    with pytest.raises(ValueError, match=r"^a lot must count before it expires$"):
        one.open(1, 5, LotTerms(expires_at_ms=NOW), NOW)
    with pytest.raises(InvalidAmount, match=r"^the balance would exceed"):
        one.open(1, AMOUNT_LIMIT, PLAIN, NOW)
    assert one.lots == {}


@given(
    st.lists(
        st.builds(
            lot,
            st.integers(1, 10**6),
            st.integers(0, 20),
            priority=st.integers(-2, 2),
            effective=st.integers(0, 2 * NOW),
            expires=st.none() | st.integers(0, 3 * NOW),
        ),
        unique_by=lambda one: one.id,
    ),
    st.integers(1, 60),
)
def test_lots_are_left_in_burn_order_or_not_at_all(
    some: list[Lot], amount: int
) -> None:
    """Whoever draws has emptied every lot that burns before the last one drawn."""
    one = account(*some)
    before = one.available(NOW)
    if before < amount:
        with pytest.raises(InsufficientCredits):
            one.spend(amount, NOW)
        assert one.available(NOW) == before
        return
    draws = one.spend(amount, NOW)
    assert one.available(NOW) == before - amount
    last = one.lots[draws[-1].lot_id].burn_order
    earlier = [
        found.remaining
        for found in some
        if found.burn_order < last and found.is_spendable(NOW)
    ]
    assert sum(earlier) == 0
