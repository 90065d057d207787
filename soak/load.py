"""Customers who deduct credits, each deduction under a key and until it is answered."""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import httpx

from tallystick.credits.grants import grant_promotional
from tallystick.customers.wallets import create_customer
from tallystick.identity.keys import Scope, issue_key
from tallystick.identity.models import KeyKind
from tallystick.kernel.db import WriteSession, open_database
from tallystick.kernel.ids import encode_id
from tallystick.kernel.money import parse_credits
from tallystick.kernel.seal import Seal
from tallystick.migrations import upgrade

_CUSTOMERS = 20
_CREDITS = 1_000_000
_DEDUCTION = {"feature": "ai_analyst"}


class Notes(Protocol):
    """Somebody who writes down what clients asked and were told."""

    def note(self, **event: Any) -> None:
        """One event, as ``acknowledgements`` says."""


@dataclass
class Load:
    """The customers, and what they are waiting for."""

    keys: dict[str, str]
    url: str
    notes: Notes
    chance: random.Random
    answers: int = 0
    waiting: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    is_over: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, answers: int) -> None:
        """Until so many were answered, and somebody waits for another answer."""
        while self.answers < answers or not self.waiting:
            self.changed.clear()
            await self.changed.wait()

    async def work(self) -> None:
        """One worker: a deduction after the other, each until it is answered."""
        async with httpx.AsyncClient(base_url=self.url, timeout=20) as http:
            while not self.is_over.is_set():
                await self._deduct(http, self.chance.choice(list(self.keys)))

    async def _deduct(self, http: httpx.AsyncClient, customer: str) -> None:
        name = secrets.token_hex(16)
        self.notes.note(asked=name, customer=customer)
        headers = {
            "Authorization": f"Bearer {self.keys[customer]}",
            "Idempotency-Key": name,
        }
        self.waiting += 1
        self.changed.set()
        try:
            answer = await self._until_answered(http, headers)
        finally:
            self.waiting -= 1
        self.notes.note(told=name, charge=answer["charge"], deducted=answer["deducted"])
        self.answers += 1
        self.changed.set()

    async def _until_answered(
        self, http: httpx.AsyncClient, headers: dict[str, str]
    ) -> Any:
        while True:
            try:
                answer = await http.post(
                    "/api/credits/deduct", json=_DEDUCTION, headers=headers
                )
            except httpx.TransportError:
                await asyncio.sleep(0.02)
                continue
            if answer.status_code == 200:
                return answer.json()
            # A database that is down or starting; nobody was charged for it.
            assert answer.status_code in {409, 503}, answer.text
            await asyncio.sleep(0.02)


@asynccontextmanager
async def working(load: Load, workers: int) -> AsyncIterator[None]:
    """So many workers at once; at the end each waits for its last answer."""
    tasks = [asyncio.create_task(load.work()) for _ in range(workers)]
    try:
        yield
        load.is_over.set()
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def make_customers(settings: dict[str, str], notes: Notes) -> dict[str, str]:
    """Customers with credits and a key each."""
    db = open_database(settings["DATABASE_URL"])
    seal = Seal(settings["SECRET_KEY"].encode())
    try:
        await upgrade(db)
        await db.start()
        made = [await db.write(partial(_customer, seal)) for _ in range(_CUSTOMERS)]
    finally:
        await db.close()
    for customer, _ in made:
        notes.note(customer=customer, credits=_CREDITS)
    return dict(made)


async def _customer(seal: Seal, session: WriteSession) -> tuple[str, str]:
    customer_id = await create_customer(session)
    await grant_promotional(
        session,
        customer_id,
        parse_credits(_CREDITS),
        idempotency_key=secrets.token_bytes(16),
        reference="soak",
        memo="soak",
    )
    key = await issue_key(
        session,
        seal,
        KeyKind.CUSTOMER,
        name="soak",
        scopes=frozenset(Scope),
        customer_id=customer_id,
    )
    return encode_id("cus", customer_id), key.secret
