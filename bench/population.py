"""The rows of books that are some weeks old, without the weeks that it took.

Every customer was given one grant, and then they were charged in turns, in an order
that goes back and forth among them. All figures follow from the number of the customer
or of the charge, so the many are made by the database itself (``charges_sql``). Ids rise
with time as ``kernel.ids`` makes them. The newest charge is older than a day: its answer
would be forgotten by now, so there are no answers.
"""

import math
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench.books import FEATURE, GIVEN, usage_of
from tallystick.credits.models import GrantCategory
from tallystick.kernel.ids import first_id_at
from tallystick.kernel.money import CREDIT, Amount
from tallystick.ledger import chart
from tallystick.ledger.journal import transaction_row
from tallystick.ledger.models import TransactionKind
from tallystick.ledger.posting import Posting, Transfer

_DAY_MS = 24 * 3600 * 1000
_SLOT = 1 << 12  # the first process that ever served, as ``kernel.ids`` marks it
_PER_MS = first_id_at(1) - first_id_at(0)
_PRICE = usage_of(0).price
_CUSTOMER, _GRANT, _TRANSACTION, _ACCOUNT = range(4)

FILLED = (
    "customer",
    "ledger_account",
    "account_balance",
    "ledger_transaction",
    "transfer",
    "lot",
    "credit_grant",
    "usage_event",
)
"""The tables that have rows afterwards."""
Rows = tuple[str, list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class House:
    """Ids of the house's accounts."""

    promotions: int
    revenue: int


@dataclass(frozen=True, slots=True)
class _Moments:
    """Numbered moments at even distances, each with ids of its own."""

    first_ms: int
    apart_ms: int

    @classmethod
    def between(cls, first_ms: int, last_ms: int, count: int) -> "_Moments":
        if count > last_ms - first_ms:
            raise ValueError("so many do not fit into the time")
        return cls(first_ms, (last_ms - first_ms) // max(1, count))

    @property
    def first_id(self) -> int:
        return first_id_at(self.first_ms) + _SLOT

    @property
    def ids_apart(self) -> int:
        return self.apart_ms * _PER_MS

    def at_ms(self, number: int) -> int:
        return self.first_ms + number * self.apart_ms

    def id(self, number: int, which: int) -> int:
        return self.first_id + number * self.ids_apart + which


class Population:
    """``customers`` with two entries for each grant and charge, ``entries`` in all."""

    def __init__(self, customers: int, entries: int, now_ms: int) -> None:
        if entries < 2 * customers:
            raise ValueError("every customer's grant has two entries")
        self.customers = customers
        self.charges = entries // 2 - customers
        began, then, end = (now_ms - days * _DAY_MS for days in (60, 30, 1))
        self._grants = _Moments.between(began, then, customers)
        self._charges = _Moments.between(then, end, self.charges)
        # The turn of a customer in each round: a step that meets everybody once.
        self._step = round(customers * 0.618) or 1
        while math.gcd(self._step, customers) != 1:
            self._step += 1
        self._back = pow(self._step, -1, customers)

    @property
    def customer_ids(self) -> range:
        first, apart = self._grants.first_id, self._grants.ids_apart
        return range(first, first + self.customers * apart, apart)

    def charged(self, customer: int) -> int:
        """How many charges the customer of that number has."""
        turn = customer * self._back % self.customers
        rounds, rest = divmod(self.charges, self.customers)
        return rounds + (turn < rest)

    def customer_rows(self, house: House, numbers: Sequence[int]) -> Iterator[Rows]:
        """The customers of these numbers with their grants, table by table."""
        yield "customer", [self._customer(one) for one in numbers]
        yield "ledger_account", [self._account(one) for one in numbers]
        yield "account_balance", [self._balance(one) for one in numbers]
        yield "ledger_transaction", [self._transaction(one) for one in numbers]
        yield "transfer", [self._transfer(one, house) for one in numbers]
        yield "lot", [self._lot(one) for one in numbers]
        yield "credit_grant", [self._grant(one) for one in numbers]

    def _customer(self, number: int) -> dict[str, Any]:
        at = self._grants
        return {"id": at.id(number, _CUSTOMER), "created_at_ms": at.at_ms(number)}

    def _account(self, number: int) -> dict[str, Any]:
        name = chart.customer_credits(self._grants.id(number, _CUSTOMER))
        return {
            "id": self._grants.id(number, _ACCOUNT),
            "code": name.code,
            "asset": name.asset.code,
            "customer_id": name.customer_id,
        }

    def _balance(self, number: int) -> dict[str, Any]:
        charged = self.charged(number)
        left = GIVEN - charged * _PRICE
        return {
            "ledger_account_id": self._grants.id(number, _ACCOUNT),
            "customer_id": self._grants.id(number, _CUSTOMER),
            "balance": left,
            "held": 0,
            "deferred": 0,
            "version": 1 + charged,
            "revision": 1 + charged,
            "burning_lot_id": self._grants.id(number, _GRANT),
            "burning_since_ms": self._grants.at_ms(number),
            "burning_left": left,
        }

    def _transaction(self, number: int) -> dict[str, Any]:
        customer = chart.customer_credits(self._grants.id(number, _CUSTOMER))
        given = Transfer(chart.promotions(), customer, Amount(GIVEN, CREDIT))
        key = secrets.token_bytes(16)
        posting = Posting(TransactionKind.GRANT, key, [given], "bench", "bench")
        made = self._grants.id(number, _TRANSACTION)
        row = transaction_row(made, posting, self._grants.at_ms(number))
        return {name: one for name, one in row.items() if one is not None}

    def _transfer(self, number: int, house: House) -> dict[str, Any]:
        return {
            "ledger_transaction_id": self._grants.id(number, _TRANSACTION),
            "position": 0,
            "debit_account_id": house.promotions,
            "credit_account_id": self._grants.id(number, _ACCOUNT),
            "amount": GIVEN,
            "credit_balance_after": GIVEN,
            "credit_version": 1,
            "lot_id": self._grants.id(number, _GRANT),
        }

    def _lot(self, number: int) -> dict[str, Any]:
        """It burns: what is left of it stands in the balance row."""
        return {
            "id": self._grants.id(number, _GRANT),
            "ledger_account_id": self._grants.id(number, _ACCOUNT),
            "amount": GIVEN,
            "remaining": GIVEN,
            "is_open": True,
            "priority": 0,
            "bought": False,
            "effective_at_ms": self._grants.at_ms(number),
        }

    def _grant(self, number: int) -> dict[str, Any]:
        return {
            "id": self._grants.id(number, _GRANT),
            "customer_id": self._grants.id(number, _CUSTOMER),
            "category": GrantCategory.PROMOTIONAL.value,
            "amount": GIVEN,
            "ledger_transaction_id": self._grants.id(number, _TRANSACTION),
            "granted_at_ms": self._grants.at_ms(number),
        }

    def charges_sql(self, house: House) -> Iterator[str]:
        """Insert the charges whose numbers ``charge (n)`` has, table by table."""
        grants, charges, usage = self._grants, self._charges, usage_of(0)
        customer = f"(n % {self.customers} * {self._step} % {self.customers})"
        round_ = f"n / {self.customers}"
        of = {
            which: f"{grants.id(0, which)} + {customer} * {grants.ids_apart}"
            for which in (_CUSTOMER, _GRANT, _ACCOUNT)
        }
        made = f"{charges.first_id} + n * {charges.ids_apart}"
        at_ms = f"{charges.first_ms} + n * {charges.apart_ms}"
        yield (
            "INSERT INTO ledger_transaction (id, kind, reference, memo, occurred_at_ms,"
            f" posted_at_ms) SELECT {made}, '{TransactionKind.CHARGE}',"
            f" '', '{usage.memo}', {at_ms}, {at_ms} FROM charge"
        )
        yield (
            "INSERT INTO transfer (ledger_transaction_id, position,"
            " debit_account_id, credit_account_id, amount, debit_balance_after,"
            f" debit_version, lot_id) SELECT {made}, 0, {of[_ACCOUNT]},"
            f" {house.revenue}, {_PRICE}, {GIVEN} - ({round_} + 1) * {_PRICE},"
            f" {round_} + 2, {of[_GRANT]} FROM charge"
        )
        yield (
            "INSERT INTO usage_event (id, customer_id, feature, quantity, credits,"
            f" catalog_version, occurred_at_ms) SELECT {made}, {of[_CUSTOMER]},"
            f" '{FEATURE}', {usage.quantity}, {_PRICE}, '{usage.catalog_version}',"
            f" {at_ms} FROM charge"
        )
