"""Several questions at once: bounded, in order, none left behind."""

import asyncio
import inspect

import pytest

from tallystick.chain.together import together


async def test_answers_keep_their_order_and_few_run_at_once() -> None:
    running = most = 0

    async def answer(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001 * (20 - number))
        running -= 1
        return number

    assert await together([answer(number) for number in range(20)], 3) == [*range(20)]
    assert most == 3
    assert await together([answer(0) for _ in range(0)], 3) == []


async def test_the_first_error_ends_the_rest() -> None:
    finished: list[str] = []

    async def fail() -> None:
        raise LookupError

    async def last() -> None:
        await asyncio.sleep(0.05)
        finished.append("last")

    with pytest.raises(LookupError):
        await together([fail(), last(), last()], 2)
    await asyncio.sleep(0.15)
    assert finished == []


async def test_a_question_whose_turn_never_came_is_put_away() -> None:
    async def fail() -> None:
        raise LookupError

    waiting = [asyncio.sleep(0) for _ in range(3)]
    with pytest.raises(LookupError):
        await together([fail(), *waiting], 1)
    assert [inspect.getcoroutinestate(one) for one in waiting] == ["CORO_CLOSED"] * 3
