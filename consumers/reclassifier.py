"""Apply new settings to everybody."""

from sqlalchemy.ext.asyncio import AsyncConnection

from service.db.segments.reclassify import advance


async def judge_chunk(connection: AsyncConnection) -> int | None:
    """Judge a chunk of customers by new settings."""
    return 1 if await advance(connection) else None
