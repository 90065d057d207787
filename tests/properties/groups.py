"""What becomes of those who come at once, as the dictionary says.

Nobody promises who of one customer comes first: what the burning lot covers is written
together, and the rest goes one by one. So there must be some order in which the
dictionary, serving one after the other, gives each the very outcome that it was told:
its verdict, its lots, and the balance in its answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.properties.books import (
    Books,
    Draws,
    ModelAnswer,
    ModelCharge,
    ModelHold,
)

LEASE_SLACK = 5


@dataclass(frozen=True)
class Want:
    """A deduction or an admission; ``request`` stands for what the key was used for."""

    is_hold: bool
    customer: int
    amount: int
    seconds: int
    key: str | None = None
    request: str = "00"
    is_limited: bool = False


@dataclass(frozen=True)
class Told:
    """``outcome`` is what the campaign counts it as."""

    outcome: str
    id: int = 0
    answer: bytes = b""
    balance: int = 0
    draws: tuple[tuple[int, int], ...] = ()


Pairs = Sequence[tuple[Want, Told]]


def explained(books: Books, pairs: Pairs) -> Books | None:
    """The books after all of them in some order that explains each outcome.

    ``None`` when there is no such order. Customers do not touch each other.
    """
    after: Books | None = books
    for customer in dict.fromkeys(want.customer for want, _ in pairs):
        mine = [one for one in pairs if one[0].customer == customer]
        after = after and _in_some_order(after, mine)
    return after


def _in_some_order(books: Books, pairs: Pairs) -> Books | None:
    if not pairs:
        return books
    for at, (want, told) in enumerate(pairs):
        after = books.copy()
        if _serve(after, want, told):
            found = _in_some_order(after, [*pairs[:at], *pairs[at + 1 :]])
            if found is not None:
                return found
    return None


def _serve(books: Books, want: Want, told: Told) -> bool:
    """Serve it; whether that is what was told."""
    known = want.key and books.answers.get((want.customer, want.key))
    if known and books.now < known.runs_until:
        return _again(known, want, told)
    if _refusal(books, want):
        # What lapsed holds have is his, and stays free if he is refused.
        books.expire(want.customer)
    refusal = _refusal(books, want)
    if refusal or told.outcome != (
        "grouped_holds" if want.is_hold else "grouped_charges"
    ):
        return told.outcome == refusal
    draws = _draw(books, want)
    if want.is_hold:
        _place(books, want, told, draws)
        return draws == list(told.draws)
    _charge(books, want, told, draws)
    return (draws, books.posted(want.customer)) == (list(told.draws), told.balance)


def _again(known: ModelAnswer, want: Want, told: Told) -> bool:
    if known.request != want.request:
        return told.outcome == "grouped_mismatches"
    if known.charge_id is None:
        return told.outcome == "still_running"
    return (told.outcome, told.answer) == ("grouped_replays", known.answer)


def _refusal(books: Books, want: Want) -> str:
    if books.available(want.customer) < want.amount:
        return "grouped_short"
    used = books.used.get(want.customer, 0) + want.amount
    return "limits_reached" if want.is_limited and used > books.limit else ""


def _draw(books: Books, want: Want) -> Draws:
    before = books.written_at.get(want.customer, 0)
    draws = books.draw(want.customer, want.amount)
    # Who is written in a group need not notice that the clock stepped back.
    books.written_at[want.customer] = max(before, books.now)
    if want.is_limited:
        books.used[want.customer] = books.used.get(want.customer, 0) + want.amount
    return draws


def _place(books: Books, want: Want, told: Told, draws: Draws) -> None:
    until = books.now + want.seconds
    books.holds[told.id] = ModelHold(
        want.customer, draws, until, limited=want.is_limited
    )
    if want.key:
        runs_until = until + LEASE_SLACK
        answer = ModelAnswer(want.request, None, b"", runs_until)
        books.answers[want.customer, want.key] = answer


def _charge(books: Books, want: Want, told: Told, draws: Draws) -> None:
    books.charges[told.id] = ModelCharge(want.customer, draws)
    books.revenue += want.amount
    if want.key:
        answer = ModelAnswer(want.request, told.id, told.answer, float("inf"))
        books.answers[want.customer, want.key] = answer
