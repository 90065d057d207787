"""A customer's account as one value in memory: balance, held, lots.

Pure: the session path loads one, changes it and writes it back; a lane may keep it and
change it many times before it writes. Each verb does all or, when it raises, nothing.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tallystick.kernel.money import AMOUNT_LIMIT, InvalidAmount
from tallystick.ledger import lots
from tallystick.ledger.errors import InsufficientCredits
from tallystick.ledger.lots import Draw, Lot


@dataclass(frozen=True, slots=True)
class LotTerms:
    """When a new lot counts and in which order it burns; lower ``priority`` first.

    ``effective_at_ms`` is the time of the booking when left out, ``expires_at_ms`` is
    never. What was bought never expires.
    """

    priority: int = 0
    bought: bool = False
    effective_at_ms: int | None = None
    expires_at_ms: int | None = None

    def __post_init__(self) -> None:
        if self.bought and self.expires_at_ms is not None:
            raise ValueError("bought credits never expire")


PLAIN = LotTerms()


@dataclass(slots=True)
class LottedAccount:
    """``balance`` is what remains in the lots plus what is held, in micro-credits.

    ``version`` numbers the lines of the statement; ``revision`` rises with every
    change that is written, also of what is held alone.
    """

    id: int
    balance: int
    held: int
    version: int
    revision: int
    lots: dict[int, Lot]
    touched: set[int]
    opened: dict[int, int]
    """New lots and the amounts with which they were opened."""
    burned: int | None = None
    """The lot of which the balance row told what is left, when it was loaded."""

    @classmethod
    def of(
        cls,
        account_id: int,
        amounts: tuple[int, int, int, int],
        lots_: Iterable[Lot],
    ) -> "LottedAccount":
        """From what is stored: balance, held, version, revision."""
        by_id = {one.id: one for one in lots_}
        return cls(account_id, *amounts, by_id, set(), {})

    def available(self, now: int) -> int:
        return lots.available(self.lots.values(), now)

    def deferred(self, now: int) -> int:
        return lots.deferred(self.lots.values(), now)

    def next_change_ms(self, now: int) -> int | None:
        return lots.next_change_ms(self.lots.values(), now)

    def burning(self, now: int) -> Lot | None:
        return lots.burning(self.lots.values(), now)

    def due(self, now: int) -> list[Draw]:
        """What has expired and must be booked as breakage, in burn order."""
        lapsed = [
            one for one in self.lots.values() if one.remaining and one.has_expired(now)
        ]
        lapsed.sort(key=lambda one: one.burn_order)
        return [Draw(one.id, one.remaining) for one in lapsed]

    def spend(self, amount: int, now: int) -> tuple[Draw, ...]:
        """Take from the lots in burn order. Raises ``InsufficientCredits``."""
        draws = self._choose(amount, now)
        self.take(draws)
        return draws

    def hold(self, amount: int, now: int) -> tuple[Draw, ...]:
        """Set aside from the lots in burn order. Raises ``InsufficientCredits``."""
        draws = self._choose(amount, now)
        self._move(draws, -1)
        self.held += amount
        return draws

    def unhold(self, draws: Sequence[Draw], taken: int = 0) -> tuple[Draw, ...]:
        """Spend the first ``taken`` of what was held; the rest returns to its lots."""
        spent, rest = lots.split(draws, taken)
        self.held -= sum(one.amount for one in draws)
        self.balance -= taken
        self._move(rest, 1)
        return spent

    def take(self, draws: Sequence[Draw]) -> None:
        """Take exactly these. Raises ``InsufficientCredits``."""
        for lot_id, amount in draws:
            if self.lots[lot_id].remaining < amount:
                raise InsufficientCredits(amount, self.lots[lot_id].remaining)
        self._move(draws, -1)
        self.balance -= sum(one.amount for one in draws)

    def put_back(self, draws: Sequence[Draw]) -> None:
        """Return what was spent to its lots. Raises ``InvalidAmount``."""
        self._grow(sum(one.amount for one in draws))
        self._move(draws, 1)

    def open(self, lot_id: int, amount: int, terms: LotTerms, now: int) -> Draw:
        """A new lot. Raises ``InvalidAmount`` when the balance cannot be counted."""
        effective = now if terms.effective_at_ms is None else terms.effective_at_ms
        if terms.expires_at_ms is not None and terms.expires_at_ms <= effective:
            raise ValueError("a lot must count before it expires")
        self._grow(amount)
        self.lots[lot_id] = Lot(
            lot_id, amount, terms.priority, terms.bought, effective, terms.expires_at_ms
        )
        self.opened[lot_id] = amount
        return Draw(lot_id, amount)

    def line(self) -> tuple[int, int]:
        """The balance after a line that was just made, and the line's number."""
        self.version += 1
        return self.balance, self.version

    def _choose(self, amount: int, now: int) -> tuple[Draw, ...]:
        draws = lots.choose(self.lots.values(), amount, now)
        if draws is None:
            raise InsufficientCredits(amount, self.available(now))
        return draws

    def _grow(self, amount: int) -> None:
        if self.balance + amount >= AMOUNT_LIMIT:
            raise InvalidAmount("the balance would exceed what the ledger can count")
        self.balance += amount

    def _move(self, draws: Sequence[Draw], sign: int) -> None:
        for lot_id, amount in draws:
            self.lots[lot_id].remaining += sign * amount
            self.touched.add(lot_id)
