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

    tasks = [asyncio.ensure_future(ask(question)) for question in questions]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
