"""What to book, before it is booked."""

from collections.abc import Sequence
from dataclasses import dataclass

from tallystick.kernel.money import Amount
from tallystick.kernel.seal import digest16
from tallystick.ledger.chart import AccountName
from tallystick.ledger.lots import Draw
from tallystick.ledger.lotted import PLAIN, LotTerms
from tallystick.ledger.models import TransactionKind


@dataclass(frozen=True, slots=True)
class FromHold:
    """Take from what was held; what the transfer leaves returns to its lots."""

    draws: tuple[Draw, ...]


@dataclass(frozen=True, slots=True)
class FromLots:
    """Take exactly these."""

    draws: tuple[Draw, ...]


@dataclass(frozen=True, slots=True)
class ToLots:
    """Return to exactly these."""

    draws: tuple[Draw, ...]


@dataclass(frozen=True, slots=True)
class ToNewLot:
    """Open a lot; its id is made when left out."""

    terms: LotTerms = PLAIN
    lot_id: int | None = None


@dataclass(frozen=True, slots=True)
class Transfer:
    """An amount that leaves ``debit`` and enters ``credit``, both of its asset.

    A customer's debit takes his lots in burn order, and his credit opens a plain new
    lot, unless ``source`` and ``target`` say otherwise.
    """

    debit: AccountName
    credit: AccountName
    amount: Amount
    source: FromHold | FromLots | None = None
    target: ToNewLot | ToLots | None = None

    def __post_init__(self) -> None:
        if not self.debit.asset == self.credit.asset == self.amount.asset:
            raise ValueError(f"one transfer moves one asset: {self}")
        if self.debit.code == self.credit.code:
            raise ValueError(f"a transfer needs two accounts: {self}")

    @property
    def named_lots(self) -> set[int]:
        """The lots that it names, which may have nothing left by now."""
        named = () if self.source is None else self.source.draws
        if isinstance(self.target, ToLots):
            named = (*named, *self.target.draws)
        return {one.lot_id for one in named}

    @property
    def line(self) -> bytes:
        """What it says of the input; which lots it met is an outcome."""
        spelled = f"{self.debit.code}>{self.credit.code}:{self.amount.atomic}"
        terms = self.target.terms if isinstance(self.target, ToNewLot) else PLAIN
        given = terms.priority, terms.effective_at_ms, terms.expires_at_ms
        return (spelled if given == (0, None, None) else f"{spelled}{given}").encode()


@dataclass(frozen=True, slots=True)
class Posting:
    """What to book. ``idempotency_key`` is 16 bytes and never expires.

    ``occurred_at_ms`` is when it happened in the world, now when left out; ``memo`` is
    for the customer's eyes. A reversal names in ``reverses_id`` the transaction that
    it takes back, wholly or in part.
    """

    kind: TransactionKind
    idempotency_key: bytes
    transfers: Sequence[Transfer]
    reference: str
    memo: str = ""
    reverses_id: int | None = None
    occurred_at_ms: int | None = None

    def __post_init__(self) -> None:
        if len(self.idempotency_key) != 16:
            raise ValueError("an idempotency key is 16 bytes (kernel.seal.digest16)")
        if not self.transfers:
            raise ValueError(f"nothing to book: {self}")
        if (self.kind is TransactionKind.REVERSAL) != (self.reverses_id is not None):
            raise ValueError(f"a reversal, and only that, names a transaction: {self}")

    @property
    def input_hash(self) -> bytes:
        """What must be the same for the same key to mean the same request.

        The time is no part of it: a retry happens later, and a reorganised chain shows
        the same payment in another block. Nor is the memo, which is only shown.
        """
        lines = [one.line for one in self.transfers]
        reversed_id = b"" if self.reverses_id is None else b"%d" % self.reverses_id
        head = (self.kind.encode(), self.reference.encode(), reversed_id)
        return digest16(*head, *lines)


@dataclass(frozen=True, slots=True)
class Posted:
    """A booked transaction; ``replayed`` when an earlier call booked it."""

    ledger_transaction_id: int
    replayed: bool
