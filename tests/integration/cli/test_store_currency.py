"""The first start fixes the store's currency: stored amounts never become another's."""

from pathlib import Path

import pytest

from service.db.installation import claim_currency
from tests.conftest import Service
from tests.events import entry
from tests.integration.cli.conftest import Crm
from tests.processes import processes

SENTENCE = "the amounts in this database are in USD, but CRM_STORE_CURRENCY is EUR."


@pytest.fixture
async def dollars(service: Service) -> Service:
    """Return a service that has an order in dollars."""
    await service.in_transaction(claim_currency, "USD")
    await service.ingest(entry("ORD-1", total="150.00", email="jane@example.com"))
    return service


@pytest.mark.parametrize("command", ["worker", "web"])
async def test_a_process_with_another_currency_says_why_and_ends(
    dollars: Service, tmp_path: Path, command: str
) -> None:
    async with processes(dollars.servers, tmp_path) as start:
        begin = start.start_worker if command == "worker" else start.start_web
        process = begin(store_currency="EUR")
        assert await process.ended() == 2
        assert SENTENCE in process.output
        assert "Traceback" not in process.output


async def test_a_currency_may_change_until_there_is_an_order(service: Service) -> None:
    await service.in_transaction(claim_currency, "USD")
    await service.in_transaction(claim_currency, "EUR")
    (row,) = await service.rows("SELECT store_currency FROM installation")
    assert row == {"store_currency": "EUR"}


@pytest.mark.usefixtures("dollars")
async def test_files_are_not_read_or_written_in_another_currency(crm: Crm, tmp_path: Path) -> None:
    file = tmp_path / "orders.ndjson"
    file.write_text("")
    for command in (["import", str(file)], ["import", str(file), "--apply"], ["export", str(file)]):
        ended = await crm(*command, store_currency="EUR")
        assert (ended.status, SENTENCE in ended.err) == (2, True), ended
