"""What queues while a commit is under way goes together, each with its own outcome."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import pytest
from sqlalchemy.exc import IntegrityError

from tallystick.kernel.group_commit import GroupCommit, TooManyWaiting


@dataclass
class Road:
    """A group whose every write waits until the test lets it through."""

    most: int = 256
    room: int = 4096
    alone: list[int] = field(default_factory=list)
    batches: list[Sequence[int]] = field(default_factory=list)
    breaks: Exception | None = None
    leaving: Callable[[], object] | None = None
    """Called in the moment before the next may go."""
    breaking: Callable[[], object] | None = None
    """Called in the moment before a batch is told that it broke."""

    def __post_init__(self) -> None:
        self.green = asyncio.Event()
        self.group: GroupCommit[int, str] = GroupCommit(
            self._write, most=self.most, room=self.room
        )

    async def _write(self, items: Sequence[int]) -> list[str | None]:
        self.batches.append(items)
        await self.green.wait()
        if self.breaks is not None:
            if self.breaking is not None:
                asyncio.get_running_loop().call_soon(self.breaking)
            raise self.breaks
        # Negative ones are not plain.
        return [f"together {one}" if one >= 0 else None for one in items]

    def enter(self, item: int) -> "asyncio.Task[str]":
        return asyncio.create_task(self.group.do(item, self._alone(item)))

    def _alone(self, item: int) -> Callable[[], Awaitable[str]]:
        async def work() -> str:
            self.alone.append(item)
            await self.green.wait()
            if self.leaving is not None:
                asyncio.get_running_loop().call_soon(self.leaving)
            return f"alone {item}"

        return work

    async def enter_all(self, *items: int) -> list["asyncio.Task[str]"]:
        entered = [self.enter(one) for one in items]
        await self.settle()
        return entered

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)


async def test_who_finds_nobody_writing_waits_for_nobody() -> None:
    road = Road()
    road.green.set()
    assert [await road.enter(one) for one in (1, 2)] == ["alone 1", "alone 2"]
    assert road.batches == []


async def test_what_queues_meanwhile_goes_together() -> None:
    road = Road()
    entered = await road.enter_all(1, 2, 3, 4)
    assert (road.alone, road.batches) == ([1], [])
    road.green.set()
    told = await asyncio.gather(*entered)
    assert told == ["alone 1", "together 2", "together 3", "together 4"]
    assert road.batches == [[2, 3, 4]]
    assert await road.enter(5) == "alone 5", "nobody is writing any more"


async def test_a_batch_is_bounded_and_what_is_left_over_alone_works_alone() -> None:
    road = Road(most=2)
    entered = await road.enter_all(1, 2, 3, 4, 5, 6)
    road.green.set()
    told = await asyncio.gather(*entered)
    assert road.batches == [[2, 3], [4, 5]]
    assert told[-1] == "alone 6"


async def test_what_is_not_plain_finds_its_own_way_and_spoils_nothing() -> None:
    road = Road()
    entered = await road.enter_all(1, 2, -3, 4)
    road.green.set()
    told = await asyncio.gather(*entered)
    assert told == ["alone 1", "together 2", "alone -3", "together 4"]


async def test_an_error_is_told_to_all_of_its_batch_and_to_no_other() -> None:
    road = Road()
    road.breaks = RuntimeError("the disk is gone")
    entered = await road.enter_all(1, 2, 3)
    road.green.set()
    told = await asyncio.gather(*entered, return_exceptions=True)
    assert told == ["alone 1", road.breaks, road.breaks]
    road.breaks = None
    assert await road.enter(4) == "alone 4"


async def test_a_key_that_somebody_used_at_the_same_moment_sends_all_alone() -> None:
    road = Road()
    road.breaks = IntegrityError("INSERT", None, Exception("not unique"))
    entered = await road.enter_all(1, 2, 3)
    road.green.set()
    assert await asyncio.gather(*entered) == ["alone 1", "alone 2", "alone 3"]


async def test_who_leaves_while_he_waits_holds_nobody_up() -> None:
    road = Road()
    first, second, third, fourth = await road.enter_all(1, 2, 3, 4)
    second.cancel()
    await road.settle()
    road.green.set()
    assert await asyncio.gather(first, third, fourth) == [
        "alone 1",
        "together 3",
        "together 4",
    ]
    assert road.batches == [[3, 4]]


async def test_who_leaves_while_he_is_written_holds_nobody_up() -> None:
    road = Road()
    entered = await road.enter_all(1, 2, 3)
    entered[0].cancel()
    await road.settle()
    assert road.batches == [[2, 3]], "the cancelled one has let them go"
    entered[1].cancel()
    later = await road.enter_all(4)
    road.green.set()
    assert await entered[2] == "together 3"
    assert await later[0] == "alone 4"


async def test_who_leaves_in_his_own_turn_lets_the_next_go() -> None:
    """The turn was given to him, and he left before he could take it."""
    road = Road()
    first, second = await road.enter_all(1, 2)
    road.leaving = second.cancel
    road.green.set()
    assert await first == "alone 1"
    await road.settle()
    assert (second.cancelled(), road.alone) == (True, [1])
    road.leaving = None
    assert await asyncio.wait_for(road.enter(3), 5) == "alone 3"


async def test_who_leaves_as_his_batch_breaks_has_left() -> None:
    road = Road()
    first, second, third = await road.enter_all(1, 2, 3)
    road.breaks = RuntimeError("the disk is gone")
    road.breaking = second.cancel
    road.green.set()
    assert await first == "alone 1"
    told = await asyncio.gather(second, third, return_exceptions=True)
    assert isinstance(told[0], asyncio.CancelledError)
    assert told[1] is road.breaks


async def test_one_too_many_is_refused_before_anything_is_written() -> None:
    road = Road(room=2)
    entered = await road.enter_all(1, 2, 3)
    with pytest.raises(TooManyWaiting):
        await road.group.do(4, lambda: pytest.fail("it was let in"))
    road.green.set()
    assert len(await asyncio.gather(*entered)) == 3
    assert (road.alone, road.batches) == ([1], [[2, 3]])
