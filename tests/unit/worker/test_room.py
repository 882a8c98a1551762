"""The room in which a worker holds entries: first come first served, and nothing is lost."""

import asyncio

import pytest

from consumers.room import Room


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_takes_what_is_free_up_to_what_is_wanted() -> None:
    room = Room(100)
    assert await room.take(10, 60) == 60
    assert await room.take(10, 60) == 40
    room.give_back(60)
    assert await room.take(10, 20) == 20
    assert await room.take(40, 40) == 40


async def test_waits_for_its_turn_even_if_less_would_fit() -> None:
    room = Room(100)
    assert await room.take(80, 80) == 80
    much = asyncio.create_task(room.take(50, 50))
    little = asyncio.create_task(room.take(10, 10))
    await _settle()
    assert not much.done()
    assert not little.done()
    room.give_back(80)
    assert (await much, await little) == (50, 10)


async def test_more_than_the_room_has_counts_as_all_of_it() -> None:
    room = Room(100)
    assert await room.take(1000, 2000) == 100


async def test_all_of_it_waits_for_everybody_and_keeps_everybody_out() -> None:
    room = Room(100)
    taken = await room.take(1, 30)
    entered = asyncio.Event()
    leave = asyncio.Event()

    async def alone() -> None:
        async with room.all_of_it():
            entered.set()
            await leave.wait()

    task = asyncio.create_task(alone())
    await _settle()
    late = asyncio.create_task(room.take(1, 1))
    await _settle()
    assert not entered.is_set()
    room.give_back(taken)
    await entered.wait()
    assert not late.done()
    leave.set()
    assert await late == 1
    await task


@pytest.mark.parametrize("served", [True, False])
async def test_one_who_gives_up_waiting_takes_nothing(served: bool) -> None:  # noqa: FBT001
    room = Room(100)
    await room.take(100, 100)
    waiting = asyncio.create_task(room.take(100, 100))
    behind = asyncio.create_task(room.take(20, 20))
    await _settle()
    if served:
        room.give_back(100)  # it is served, and cancelled before it goes on
        waiting.cancel()
    else:
        waiting.cancel()
        await _settle()
        room.give_back(100)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await behind == 20
    assert await room.take(1, 100) == 80
