"""Look for customers whom time alone has moved."""

from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.segments.sweep import sweep


async def sweep_once(connection: AsyncConnection) -> int | None:
    """Settle customers whom time has moved."""
    swept = await sweep(connection)
    return None if swept.finished else swept.moved
