"""Tasks end when they are asked to, even if a library swallows a cancellation."""

import asyncio

import pytest

from consumers.tasks import end, together


class Stubborn:
    """Swallows the first cancellations, as client libraries sometimes do, and goes on."""

    def __init__(self, swallows: int = 1) -> None:
        self.started = asyncio.Event()
        self.swallowed = 0
        self.ended = False
        self._swallows = swallows

    async def run(self) -> None:
        self.started.set()
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if self.swallowed == self._swallows:
                    self.ended = True
                    raise
                self.swallowed += 1


async def waits_for_ever() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("swallows", [1, 4])
async def test_a_part_that_swallows_cancellations_is_cancelled_again(swallows: int) -> None:
    part = Stubborn(swallows)
    task = asyncio.create_task(together(waits_for_ever(), part.run()))
    await part.started.wait()
    async with asyncio.timeout(30):
        await end([task])
    assert part.swallowed == swallows
    assert part.ended
    assert task.cancelled()


async def test_an_error_of_one_part_ends_the_others_and_is_raised() -> None:
    part = Stubborn()

    async def fails() -> None:
        await part.started.wait()
        msg = "a bug"
        raise LookupError(msg)

    async with asyncio.timeout(30):
        with pytest.raises(LookupError, match="a bug"):
            await together(part.run(), fails())
    assert part.swallowed == 1
