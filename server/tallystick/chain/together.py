"""Several questions at once, a few at a time, none left behind."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def together(
    questions: Iterable[Coroutine[Any, Any, T]], at_once: int
) -> list[T]:
    """All answers in order; the first error cancels what still runs and is raised.

    ``asyncio.gather`` alone would let the others run on, past the closing of the chain.
    """
    turns = asyncio.Semaphore(at_once)

    async def ask(question: Coroutine[Any, Any, T]) -> T:
        async with turns:
            return await question

    asked = list(questions)
    tasks = [asyncio.ensure_future(ask(question)) for question in asked]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Whose turn never came was not begun, and Python would complain of it.
        for question in asked:
            question.close()
