"""Any sequence of grants, charges, holds, refunds and hours keeps the books as the
model says, also when the clock jumps and when many come at once."""

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.postgres import PostgresServer
from tests.properties.machine import MoneyMachine


def _run(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        MoneyMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(600)
def test_any_sequence_keeps_the_books_as_the_model_says(sqlite_template: Path) -> None:
    async def make(folder: Path) -> str:
        path = folder / "books.sqlite3"
        shutil.copy(sqlite_template, path)
        return f"sqlite+aiosqlite:///{path}"

    MoneyMachine.make = make
    _run(12, 40)


@pytest.mark.timeout(600)
def test_postgresql_keeps_them_alike(postgres: PostgresServer) -> None:
    async def make(_folder: Path) -> str:
        return postgres.url(await postgres.create_database())

    MoneyMachine.make = make
    _run(5, 20)
