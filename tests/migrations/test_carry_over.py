"""Books from before there were lots come through with every line explained."""

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection
from tests.ledger.bookings import audit, balance, book, charge, refund, remainders
from tests.postgres import PostgresServer

from tallystick.credits import holds
from tallystick.kernel.db import Database, open_database, query
from tallystick.kernel.seal import digest16
from tallystick.ledger import chart
from tallystick.ledger.balances import Balance
from tallystick.migrations import _config, _migrate, upgrade

ALICE, BOB, CAROL = 7, 8, 9
ACCOUNTS = {ALICE: 701, BOB: 801, CAROL: 901}
PROMOTIONS, REVENUE, CREDIT_SIDE, USDC_SIDE, CHAIN = 11, 12, 13, 14, 15
OPEN, CAPTURED = 5001, 5002


class OldBooks:
    """Rows as revision 0002 had them, with balances and line numbers that fit."""

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection
        self.ids = itertools.count(10_000)
        self.balances = dict.fromkeys(ACCOUNTS.values(), 0)
        self.versions = dict.fromkeys(ACCOUNTS.values(), 0)

    async def run(self, sql: str, **values: object) -> None:
        await self.connection.execute(text(sql), values)

    async def open_accounts(self) -> None:
        house = {
            PROMOTIONS: ("expense:promotions", "CREDIT"),
            REVENUE: ("revenue:feature:x", "CREDIT"),
            CREDIT_SIDE: ("equity:exchange:CREDIT", "CREDIT"),
            USDC_SIDE: ("equity:exchange:USDC", "USDC"),
            CHAIN: ("assets:chain:somewhere", "USDC"),
        }
        named = {id_: (*one, None) for id_, one in house.items()}
        for customer, id_ in ACCOUNTS.items():
            named[id_] = (chart.customer_credits(customer).code, "CREDIT", customer)
        for id_, (code, asset, customer) in named.items():
            await self.run(
                "INSERT INTO ledger_account VALUES (:id, :code, :asset, :customer)",
                id=id_,
                code=code,
                asset=asset,
                customer=customer,
            )

    async def close(self, held: dict[int, int], wrong: dict[int, int]) -> None:
        for account, sum_ in self.balances.items():
            await self.run(
                "INSERT INTO account_balance VALUES (:id, :balance, :held, :version)",
                id=account,
                balance=sum_ + wrong.get(account, 0),
                held=held.get(account, 0),
                version=self.versions[account],
            )

    async def post(
        self,
        kind: str,
        *transfers: tuple[int, int, int],
        reverses: int | None = None,
        reference: str = "x",
    ) -> int:
        transaction = next(self.ids)
        key = digest16(b"%d" % transaction)
        await self.run(
            "INSERT INTO ledger_transaction VALUES"
            " (:id, :kind, :key, :key, :reference, 'A line', :reverses, 1, :at)",
            id=transaction,
            kind=kind,
            key=key,
            reference=reference,
            reverses=reverses,
            at=transaction,
        )
        for position, (debit, credit, amount) in enumerate(transfers):
            before = self._line(debit, -amount), self._line(credit, amount)
            (debit_after, debit_version), (credit_after, credit_version) = before
            await self.run(
                "INSERT INTO transfer VALUES (:id, :transaction, :position, :debit,"
                " :credit, :amount, :debit_after, :debit_version, :credit_after,"
                " :credit_version)",
                id=next(self.ids),
                transaction=transaction,
                position=position,
                debit=debit,
                credit=credit,
                amount=amount,
                debit_after=debit_after,
                debit_version=debit_version,
                credit_after=credit_after,
                credit_version=credit_version,
            )
        return transaction

    def _line(self, account: int, change: int) -> tuple[int | None, int | None]:
        if account not in self.balances:
            return None, None
        self.balances[account] += change
        self.versions[account] += 1
        return self.balances[account], self.versions[account]

    async def give(self, customer: int, amount: int) -> int:
        sides = (PROMOTIONS, ACCOUNTS[customer], amount)
        return await self._grant(customer, amount, "promotional", "grant", sides)

    async def buy(self, customer: int, amount: int) -> int:
        money = (CHAIN, USDC_SIDE, 5)
        sides = (CREDIT_SIDE, ACCOUNTS[customer], amount)
        return await self._grant(customer, amount, "paid", "topup", money, sides)

    async def _grant(
        self,
        customer: int,
        amount: int,
        category: str,
        kind: str,
        *sides: tuple[int, int, int],
    ) -> int:
        transaction = await self.post(kind, *sides)
        grant, paid = next(self.ids), category == "paid"
        await self.run(
            "INSERT INTO credit_grant (id, customer_id, category, amount, cost_amount,"
            " cost_asset, ledger_transaction_id, granted_at_ms) VALUES (:id, :customer,"
            " :category, :amount, :cost, :asset, :transaction, 1)",
            id=grant,
            customer=customer,
            category=category,
            amount=amount,
            cost=5 if paid else None,
            asset="USDC" if paid else None,
            transaction=transaction,
        )
        return grant

    async def hold(self, hold_id: int, amount: int, state: str, captured: int) -> None:
        await self.run(
            "INSERT INTO hold (id, customer_id, feature, amount, captured, state,"
            " placed_at_ms, expires_at_ms, settled_at_ms) VALUES (:id, :customer, 'x',"
            " :amount, :captured, :state, :now, :expires, :settled)",
            id=hold_id,
            customer=ALICE,
            amount=amount,
            captured=captured,
            state=state,
            now=next(self.ids),
            expires=1 << 60,
            settled=None if state == "open" else 2,
        )


@pytest.fixture
async def old_db(
    request: pytest.FixtureRequest, database_url: str, tmp_path: Path
) -> AsyncIterator[Database]:
    """A database with the tables of revision 0002."""
    url, server = f"sqlite+aiosqlite:///{tmp_path / 'old.sqlite3'}", None
    if not database_url.startswith("sqlite"):
        server = request.getfixturevalue("postgres")
        assert isinstance(server, PostgresServer)
        name = await server.create_database(template="template0")
        url = server.url(name)
    db = open_database(url)
    await _migrate(db, lambda connection: command.upgrade(_config(connection), "0002"))
    yield db
    await db.close()
    if server is not None:
        await server.drop_database(name)


async def _fill(db: Database, *, wrong: int = 0) -> dict[str, int]:
    """Alice lives a little; Bob gets something from her; Carol has bought."""
    made: dict[str, int] = {}
    async with db.writer.begin() as connection:
        books = OldBooks(connection)
        await books.open_accounts()
        alice = ACCOUNTS[ALICE]
        made["bought"] = await books.buy(ALICE, 100)
        made["given"] = await books.give(ALICE, 50)
        await books.post("charge", (alice, REVENUE, 30))
        made["charge"] = await books.post("charge", (alice, REVENUE, 40))
        back = (REVENUE, alice, 25)
        await books.post("reversal", back, reverses=made["charge"])
        reference = f"hold:{CAPTURED}"
        await books.post("charge", (alice, REVENUE, 2), reference=reference)
        await books.post("charge", (alice, ACCOUNTS[BOB], 1))
        made["carol's"] = await books.buy(CAROL, 20)
        await books.hold(CAPTURED, 9, "captured", 2)
        await books.hold(OPEN, 15, "open", 0)
        await books.close({alice: 15}, {ACCOUNTS[CAROL]: wrong})
    return made


async def test_old_books_are_lived_again_and_every_line_names_its_lots(
    old_db: Database,
) -> None:
    made = await _fill(old_db)
    await upgrade(old_db)
    await old_db.start()
    assert await audit(old_db) == []
    # Given 50: 30 and 20 spent, 5 of them returned after the 20 that were bought;
    # then 2 captured, 1 to Bob, and the last 2 are held with 13 of what was bought.
    left = await remainders(old_db)
    assert left.pop(made["bought"]) == 87
    assert left.pop(made["carol's"]) == 20
    assert made["given"] not in left
    assert list(left.values()) == [1]
    assert await balance(old_db, ALICE) == Balance(102, 15)
    async with old_db.read() as session:
        rows = await query(
            session,
            "SELECT lot_id, amount FROM hold_draw WHERE hold_id = :id ORDER BY lot_id",
            id=OPEN,
        )
    assert {row["lot_id"]: row["amount"] for row in rows} == {
        made["bought"]: 13,
        made["given"]: 2,
    }


async def test_carried_over_books_go_on(old_db: Database) -> None:
    made = await _fill(old_db)
    await upgrade(old_db)
    await old_db.start()
    await old_db.write(lambda session: holds.capture(session, OPEN))
    await refund(old_db, made["charge"])
    await book(old_db, charge(87 + 15, "all that is left", ALICE))
    assert await balance(old_db, ALICE) == Balance(0, 0)
    assert await audit(old_db) == []


@pytest.mark.parametrize("wrong", [3, -3])
async def test_books_that_did_not_add_up_are_carried_over_and_still_found_out(
    old_db: Database, wrong: int
) -> None:
    await _fill(old_db, wrong=wrong)
    await upgrade(old_db)
    await old_db.start()
    assert await balance(old_db, CAROL) == Balance(20 + wrong, 0)
    assert (await remainders(old_db))[ACCOUNTS[CAROL]] == 20 + wrong
    findings = {one.invariant for one in await audit(old_db)}
    assert "I3 balance equals the sum of entries, version their number" in findings
