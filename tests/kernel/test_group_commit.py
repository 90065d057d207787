"""What queues while a commit is under way goes together, each with its own outcome."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import pytest

from tallystick.kernel.group_commit import GroupCommit, TooManyWaiting
from tallystick.kernel.lane import GroupRefused


@dataclass
class Road:
    """A group whose every write waits until the test lets it through."""

    most: int = 256
    room: int = 4096
    alone: list[int] = field(default_factory=list)
    groups: list[Sequence[int]] = field(default_factory=list)
    breaks: Exception | None = None
    whose: Callable[[int], object] = int
    clears: set[int] = field(default_factory=set)
    """Those that are plain once somebody went alone."""
    breaking: Callable[[], object] | None = None
    """Called in the moment before a group is told that it broke."""

    def __post_init__(self) -> None:
        self.green = asyncio.Event()
        self.group: GroupCommit[int, str] = GroupCommit(
            self._write, whose=self.whose, most=self.most, room=self.room
        )

    async def _write(self, items: Sequence[int]) -> list[str | None]:
        self.groups.append(items)
        await self.green.wait()
        if self.breaks is not None:
            if self.breaking is not None:
                asyncio.get_running_loop().call_soon(self.breaking)
            raise self.breaks
        # Negative ones are not plain.
        plain = [one >= 0 or (bool(self.alone) and one in self.clears) for one in items]
        return [
            f"together {one}" if fits else None
            for one, fits in zip(items, plain, strict=True)
        ]

    def enter(self, item: int) -> "asyncio.Task[str]":
        return asyncio.create_task(self.group.do(item, self._alone(item)))

    def _alone(self, item: int) -> Callable[[], Awaitable[str]]:
        async def work() -> str:
            self.alone.append(item)
            await asyncio.sleep(0)
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
    assert [await road.enter(one) for one in (1, 2)] == ["together 1", "together 2"]
    assert road.groups == [[1], [2]]


async def test_what_queues_meanwhile_goes_together() -> None:
    road = Road()
    entered = [*await road.enter_all(1), *await road.enter_all(2, 3, 4)]
    assert road.groups == [[1]]
    road.green.set()
    told = await asyncio.gather(*entered)
    assert told == ["together 1", "together 2", "together 3", "together 4"]
    assert road.groups == [[1], [2, 3, 4]]
    await road.enter(5)
    assert road.groups[-1] == [5], "nobody is writing any more"


async def test_a_group_is_bounded() -> None:
    road = Road(most=2)
    entered = await road.enter_all(1, 2, 3, 4, 5)
    road.green.set()
    await asyncio.gather(*entered)
    assert road.groups == [[1, 2], [3, 4], [5]]


async def test_what_is_not_plain_finds_its_own_way_and_spoils_nothing() -> None:
    road = Road()
    entered = await road.enter_all(1, -2, 3)
    road.green.set()
    told = await asyncio.gather(*entered)
    assert told == ["together 1", "alone -2", "together 3"]
    assert road.alone == [-2]


async def test_an_error_is_told_to_all_of_its_group_and_to_no_other() -> None:
    road = Road()
    road.breaks = RuntimeError("the disk is gone")
    entered = await road.enter_all(1, 2)
    road.green.set()
    told = await asyncio.gather(*entered, return_exceptions=True)
    assert told == [road.breaks, road.breaks]
    road.breaks = None
    assert await road.enter(3) == "together 3"


async def test_a_group_that_somebody_was_in_the_way_of_goes_alone() -> None:
    road = Road()
    road.breaks = GroupRefused()
    entered = await road.enter_all(1, 2)
    road.green.set()
    assert await asyncio.gather(*entered) == ["alone 1", "alone 2"]


async def test_who_leaves_while_he_waits_holds_nobody_up_and_is_not_served() -> None:
    road = Road()
    (first,) = await road.enter_all(1)
    second, third = await road.enter_all(2, 3)
    second.cancel()
    await road.settle()
    road.green.set()
    assert await asyncio.gather(first, third) == ["together 1", "together 3"]
    assert road.groups == [[1], [3]]


async def test_who_leaves_while_he_is_written_holds_nobody_up() -> None:
    road = Road()
    first, second = await road.enter_all(1, 2)
    first.cancel()
    later = await road.enter_all(3)
    assert road.groups == [[1, 2]]
    road.green.set()
    assert await asyncio.gather(second, *later) == ["together 2", "together 3"]


async def test_all_may_leave_and_the_next_is_served() -> None:
    road = Road()
    (first,) = await road.enter_all(1)
    (second,) = await road.enter_all(2)
    second.cancel()
    await road.settle()
    road.green.set()
    await first
    assert await asyncio.wait_for(road.enter(3), 5) == "together 3"
    assert [] not in road.groups, "nothing is written for nobody"


async def test_who_leaves_as_his_group_breaks_has_left() -> None:
    road = Road()
    first, second = await road.enter_all(1, 2)
    road.breaks = RuntimeError("the disk is gone")
    road.breaking = first.cancel
    road.green.set()
    told = await asyncio.gather(first, second, return_exceptions=True)
    assert isinstance(told[0], asyncio.CancelledError)
    assert told[1] is road.breaks


async def test_one_too_many_is_refused_before_anything_is_written() -> None:
    road = Road(room=2)
    entered = [*await road.enter_all(1), *await road.enter_all(2, 3)]
    with pytest.raises(TooManyWaiting):
        await road.group.do(4, lambda: pytest.fail("it was let in"))
    road.green.set()
    assert len(await asyncio.gather(*entered)) == 3
    assert road.groups == [[1], [2, 3]]


async def test_one_clears_the_way_for_those_who_would_wait_for_him() -> None:
    """A crowd of one customer whose lot is spent: one opens the next lot, alone."""
    road = Road(whose=lambda _: "his", clears={-2, -3, -4})
    road.green.set()
    told = await asyncio.gather(*await road.enter_all(-1, -2, -3, -4))
    assert told == ["alone -1", "together -2", "together -3", "together -4"]
    assert (road.alone, road.groups) == ([-1], [[-1, -2, -3, -4], [-2, -3, -4]])


async def test_whom_nobody_clears_the_way_goes_alone_in_the_end() -> None:
    road = Road(whose=lambda _: "his")
    road.green.set()
    told = await asyncio.gather(*await road.enter_all(*range(-8, 0)))
    assert told == [f"alone {one}" for one in range(-8, 0)]
    assert len(road.groups) == 3, "and does not queue for ever"


async def test_others_do_not_wait_for_one_who_goes_alone() -> None:
    road = Road(whose=lambda one: one % 2)
    road.green.set()
    told = await asyncio.gather(*await road.enter_all(-1, -2, -3, -4))
    assert sorted(road.alone) == [-4, -3, -2, -1]
    assert told == ["alone -1", "alone -2", "alone -3", "alone -4"]
