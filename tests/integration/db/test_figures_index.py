"""Workers take new customers into the index by which lists are sorted by figures."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.figures_index import summarize
from tests.conftest import Service
from tests.events import entry


async def _add_customers(service: Service, name: str) -> None:
    await service.ingest(*(entry(f"{name}-{n}", email=f"{name}{n}@x.org") for n in range(200)))


async def _new_pages(connection: AsyncConnection) -> int | None:
    """Take what is new into the index as a worker does; return how many groups of pages."""
    found: int | None = (await connection.execute(text("SELECT summarize_figures()"))).scalar_one()
    return found


async def test_a_worker_takes_new_customers_into_the_index(service: Service) -> None:
    await _add_customers(service, "a")
    assert await service.in_transaction(_new_pages)
    await _add_customers(service, "b")
    await service.in_transaction(summarize)
    assert await service.in_transaction(_new_pages) == 0


async def test_a_worker_does_not_wait_for_a_vacuum_which_does_the_same(service: Service) -> None:
    await _add_customers(service, "a")
    async with service.owner.begin() as vacuuming:
        await vacuuming.execute(text("LOCK TABLE customers IN SHARE UPDATE EXCLUSIVE MODE"))
        assert await service.in_transaction(_new_pages) is None
    assert await service.in_transaction(_new_pages)


async def test_only_one_worker_does_it(service: Service) -> None:
    await _add_customers(service, "a")
    async with service.engine.begin() as other:
        await summarize(other)
        await _add_customers(service, "b")
        await service.in_transaction(summarize)
        await other.rollback()
    assert await service.in_transaction(_new_pages)
