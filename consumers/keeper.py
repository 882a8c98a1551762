"""Make answers that take long anew, before somebody has to wait for them."""

from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.statistics import cohorts, key_figures
from service.db.statistics.answer_cache import renew

ANSWERS = {**key_figures.TO_KEEP, cohorts.KEPT: cohorts.count_cells}


async def keep_answer(connection: AsyncConnection) -> int | None:
    """Renew one of them; that is routine, and nothing to log."""
    return 0 if await renew(connection, ANSWERS) else None
