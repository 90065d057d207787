"""What a program asks for: amounts by what is there, keys by which came last."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st
from tests.properties.books import Books
from tests.properties.groups import Want

_NAMED = st.sampled_from(
    ["sip", "sip", "sip", "bit", "bit", "lot", "over", "all", "more"]
)
AMOUNTS: st.SearchStrategy[int | str] = st.one_of(_NAMED, _NAMED, st.integers(1, 25))
PARTS: st.SearchStrategy[int | str | None] = st.one_of(
    st.integers(1, 12), st.sampled_from([None, None, "sip", "bit", "all", "more"])
)
# With more of one customer in a group two of them could end up beside each other. Then
# it hangs on the moment who comes first, and a seed does not bring it back.
_MOST_OF_ONE = 4


@dataclass(frozen=True)
class Item:
    """One of a group; ``key`` is none, a new one, or the newest but so many."""

    is_hold: bool
    customer: int
    wanted: int | str
    seconds: int
    key: str | int | None
    request: str
    is_limited: bool


_ITEMS = st.builds(
    Item,
    is_hold=st.sampled_from([False, False, True]),
    customer=st.sampled_from([1, 1, 2]),
    wanted=AMOUNTS,
    seconds=st.sampled_from([10, 20, 40]),
    key=st.sampled_from([None, "new", "new", "new", 0, 1, 2, 5]),
    request=st.sampled_from(["00", "00", "00", "11"]),
    is_limited=st.sampled_from([False, True, True]),
)
GROUPS = st.lists(_ITEMS, min_size=2, max_size=7) | st.lists(
    _ITEMS, min_size=4, max_size=7
)


def amount_of(books: Books, customer: int, wanted: int | str) -> int:
    """``wanted`` may be told by what he has and by the lot that burns."""
    if isinstance(wanted, int):
        return wanted
    lots = [lot.remaining for _, lot in books.spendable(customer) if lot.remaining]
    burning, have = (lots or [0])[0], sum(lots)
    named = {
        "sip": burning // 4,
        "bit": have // 8,
        "lot": burning,
        "over": burning + 1,
        "all": have,
        "more": have + 1,
    }
    return max(named[wanted], 1)


def part_of(whole: int, wanted: int | str | None) -> int | None:
    """The same of a hold or a charge; all of it is none."""
    named = {"sip": whole // 4, "bit": whole // 2, "all": whole, "more": whole + 1}
    return max(named[wanted], 1) if isinstance(wanted, str) else wanted


def wants_of(books: Books, items: Sequence[Item]) -> list[Want]:
    """The items with amounts and keys."""
    found: list[Want] = []
    of = Counter(one.customer for one in items)
    for one in items:
        others = [want for want in found if want.customer == one.customer]
        if len(others) < _MOST_OF_ONE:
            found.append(_want(books, one, others, is_alone=of[one.customer] == 1))
    return found


def _want(books: Books, one: Item, others: Sequence[Want], *, is_alone: bool) -> Want:
    known = [key for customer, key in books.answers if customer == one.customer]
    keys = [*known, *(want.key for want in others if want.key)]
    return Want(
        one.is_hold,
        one.customer,
        amount_of(books, one.customer, one.wanted),
        one.seconds,
        _key(one, keys, f"{len(books.answers)} {len(others)}"),
        one.request,
        # Who has a limit goes alone, and beside others it hangs on the moment as well.
        is_limited=one.is_limited and is_alone,
    )


def _key(one: Item, keys: Sequence[str], fresh: str) -> str | None:
    if one.key is None:
        return None
    if one.key == "new" or not keys:
        return fresh
    return keys[-1 - int(one.key) % len(keys)]
