"""What makes an installation itself: a secret, made once by the first migration."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection


async def secret(connection: AsyncConnection) -> bytes:
    """Return the installation's secret. Derive keys from it; never show it or use it as it is."""
    return bytes((await connection.execute(text("SELECT salt FROM installation"))).scalar_one())
