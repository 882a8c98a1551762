"""``/api/v1/customers/export.csv``: the filtered list as a streamed CSV file."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Annotated, Any, ClassVar

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.core.scopes import Actor
from service.db.accounts.audit import note
from service.db.customers.customer_filter import CustomerFilter
from service.db.customers.filters import Filter
from service.db.store_clock import StoreClock, read_store_clock
from service.http.api.own_filters import refuse_misfits
from service.http.auth.guard import Exporter, within
from service.http.budgets import EXPORTS
from service.http.problems import DOCUMENTED
from service.http.state import replica_engine, state_of
from service.transfer.export import BOM, COLUMNS, Sink, copy_customers

log = logging.getLogger(__name__)

router = APIRouter(prefix="/api/v1/customers", tags=["customers"], responses=DOCUMENTED)

_EXAMPLE = {
    "ID": "CUST-1001",
    "Name": "Jane Smith",
    "Email": "jane@example.com",
    "Phone": "555-5678",
    "Segment": "vip",
    "Date Created": "2026-09-01T08:30:00Z",
    "Last Order Date": "2026-11-22T09:59:58Z",
    "Total Orders": "4",
    "Total Spent": "512.40",
    "Chance 90 Days": "0.4200",
    "Expected Orders 12 Months": "1.870",
    "Expected Value 12 Months": "71.43",
    "Expected Next Order": "2026-12-14",
    "RFM Group": "champions",
}
_EXAMPLE_LINES = (COLUMNS, [_EXAMPLE.get(column, "") for column in COLUMNS])
CSV_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "text/csv": {"example": "".join(f"{','.join(line)}\r\n" for line in _EXAMPLE_LINES)}
        },
        "description": "CSV in UTF-8, separated by commas, with a header line.",
    },
}


class ExportBrokenOffError(Exception):
    """An export ended before it was complete. The server cuts the connection because of it."""


class CopiedResponse(Response):
    """A response that ``copy`` writes piece by piece, no faster than the client reads."""

    media_type = "text/csv"

    def __init__(self, copy: Callable[[Sink], Awaitable[int]], filename: str, head: bytes) -> None:
        """Create a response that sends ``head`` and then what ``copy`` writes."""
        super().__init__(
            headers={
                "Content-Disposition": f'attachment; filename="{filename}"',
                "Cache-Control": "no-store",
            }
        )
        del self.headers["content-length"]
        self._copy = copy
        self._head = head
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send everything, or stop when the client disconnects.

        An error before the first piece becomes an ordinary problem document. After that, ending
        the response would make the file look complete. So the error is raised, and the server
        cuts the connection.
        """
        copying = asyncio.create_task(self._send_all(send))
        leaving = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait({copying, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if copying.done():
                await self._finish(copying)
        finally:
            for task in (copying, leaving):
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task

    async def _finish(self, copying: asyncio.Task[None]) -> None:
        try:
            await copying
        except Exception as error:
            if not self._started:
                raise
            log.warning("an export broke off: %s", type(error).__name__)
            raise ExportBrokenOffError from error

    async def _send_all(self, send: Send) -> None:
        async def body(piece: bytes, *, more: bool = True) -> None:
            if not self._started:
                self._started = True
                await send(
                    {
                        "type": "http.response.start",
                        "status": self.status_code,
                        "headers": self.raw_headers,
                    }
                )
                piece = self._head + piece
            await send({"type": "http.response.body", "body": piece, "more_body": more})

        await self._copy(body)
        await body(b"", more=False)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class CustomerExport(CustomerFilter):
    """A filter, and how to write the file."""

    bom: bool = Field(
        default=True,
        description="Begins the file with a byte order mark, so that Excel reads it as UTF-8.",
    )


class ExportInAddress(CustomerExport):
    """The same as parameters of an address, of which unknown ones are ignored."""

    ignores_unknown: ClassVar[bool] = True


@router.get(
    "/export.csv", response_class=Response, responses=CSV_ANSWER, dependencies=[within(EXPORTS)]
)
async def export_customers(
    request: Request, actor: Exporter, wanted: Annotated[ExportInAddress, Query()]
) -> Response:
    """Export the customers that match the filters as CSV, in the order of their ids.

    A cell that a spreadsheet would run as a formula begins with an apostrophe. If an export breaks
    off, the response has no proper HTTP end, so clients notice it. A client that reads less than
    16 kB a second for half a minute is cut off.
    """
    await refuse_misfits(request, wanted, "query")
    return await exported(request, actor, wanted.chosen, mark=wanted.bom)


@router.post(
    "/export.csv", response_class=Response, responses=CSV_ANSWER, dependencies=[within(EXPORTS)]
)
async def export_found_customers(
    request: Request, actor: Exporter, wanted: CustomerExport
) -> Response:
    """Export customers, as `GET /api/v1/customers/export.csv` does, with the filters in the body.

    Nothing in the address says whom you look for.
    """
    await refuse_misfits(request, wanted, "body")
    return await exported(request, actor, wanted.chosen, mark=wanted.bom)


async def exported(
    request: Request, actor: Actor, choose: Callable[[StoreClock], Filter], *, mark: bool = True
) -> Response:
    """Return an export of the customers that ``choose`` returns, and note it in the audit log.

    The audit gets the names of the filters only, because their values are personal data.
    """
    async with state_of(request).engine.begin() as connection:
        clock = await read_store_clock(connection)
        chosen = choose(clock)
        details = {"filters": chosen.names}
        await note(connection, actor.name, "customers.exported", details=details)
    copy = partial(copy_customers, await replica_engine(request), chosen)
    return CopiedResponse(copy, f"customers-{clock.today}.csv", BOM if mark else b"")
