"""Refuse filters by own fields that there are not, or that do not fit."""

from fastapi import Request

from service.db.customers.customer_filter import CustomerFilter
from service.db.customers.own_fields.catalogue import list_fields
from service.http.problems import Fault, ProblemError
from service.http.state import snapshot


async def refuse_misfits(request: Request, chosen: CustomerFilter, where: str) -> None:
    """Raise a problem if a filter does not fit the own fields. The filter is at ``where``."""
    if not chosen.own:
        return
    async with snapshot(request) as connection:
        misfits = chosen.misfits(await list_fields(connection))
    if misfits:
        faults = [Fault(where=f"{where}.{name}", message=why) for name, why in misfits.items()]
        detail = "; ".join(f"{fault.where}: {fault.message}" for fault in faults)
        raise ProblemError(422, "Invalid request", detail, faults)
