"""One payment, hundreds of times and in every spelling, at two processes (A02, A03)."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from soak.acknowledgements import Acknowledgements
from soak.attackers import authorization_of, purchase_of, spelled
from soak.payers import PURCHASE, Town

from tallystick.chain.local import LocalChain
from tallystick.demo.ports import free_port
from tallystick.kernel.db import open_database
from tests.api.payments import funded
from tests.payments.test_kill import read_books, settings_for
from tests.postgres import PostgresServer
from tests.processes import serving

COPIES, SPELLINGS = 200, 500


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=100)
    async with httpx.AsyncClient(timeout=60, limits=limits) as client:
        yield client


async def test_copies_and_spellings_at_two_processes_are_one_payment(
    slow_chain: LocalChain,
    postgres: PostgresServer,
    tmp_path: Path,
    http: httpx.AsyncClient,
) -> None:
    name = await postgres.create_database()
    settings = settings_for(postgres.url(name), slow_chain)
    other = settings | {"PORT": str(free_port())}
    wallet = await funded(slow_chain)
    chance = random.Random(20261122)
    with Acknowledgements(tmp_path / "notes.jsonl") as notes:
        async with serving(tmp_path, **settings) as a, serving(tmp_path, **other) as b:
            town = Town(slow_chain, [a.url, b.url], http, notes, chance)
            payment, respelled = [await purchase_of(town, wallet) for _ in range(2)]
            headers = [payment.headers] * COPIES
            copies = await asyncio.gather(
                *(town.insist("copy", one, **PURCHASE) for one in headers)
            )
            assert Counter(one.status_code for one in copies) == {200: COPIES}
            assert len({one.json()["topup"]["id"] for one in copies}) == 1

            spellings = [spelled(town, respelled) for _ in range(SPELLINGS)]
            answers = await asyncio.gather(
                *(town.insist("spelling", one, **PURCHASE) for one in spellings)
            )
    taken = [one for one in answers if one.status_code == 200]
    told = Counter(one.status_code for one in answers)
    assert told == {200: len(taken), 400: SPELLINGS - len(taken)}
    assert len(taken) > 10, "some of the spellings are allowed"
    assert len({one.json()["topup"]["id"] for one in taken}) == 1
    db = open_database(settings["DATABASE_URL"])
    try:
        topups, sent = await read_books(db)
    finally:
        await db.close()
    nonces = {authorization_of(one).nonce for one in (payment, respelled)}
    assert {bytes(one.nonce) for one in topups} == nonces
    assert len(topups) == len(sent) == 2
    await postgres.drop_database(name)
