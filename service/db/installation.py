"""What makes an installation itself: a secret, made by the first migration, and its currency."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.config import ConfigError

_CURRENCY = text("SELECT store_currency FROM installation")
# Before the first order there is no amount that another currency would change.
_CLAIM = text("""
UPDATE installation SET store_currency = :currency
WHERE store_currency IS NULL OR NOT EXISTS (SELECT FROM orders)
""")


class OtherCurrencyError(ConfigError):
    """The amounts in the database are in another currency than the configured one."""

    def __init__(self, stored: str, configured: str) -> None:
        """Create the error from both currencies."""
        super().__init__(
            f"the amounts in this database are in {stored}, but CRM_STORE_CURRENCY is {configured}."
            f" Set it to {stored}, or use a database of its own for a store in {configured}."
        )


async def secret(connection: AsyncConnection) -> bytes:
    """Return the installation's secret. Derive keys from it; never show it or use it as it is."""
    return bytes((await connection.execute(text("SELECT salt FROM installation"))).scalar_one())


async def claim_currency(connection: AsyncConnection, configured: str) -> None:
    """Make this the currency of all amounts, if no order has made it another. The caller commits.

    Raises OtherCurrencyError: amounts that are stored are never taken for another currency's.
    """
    if await _stored(connection) != configured:
        await connection.execute(_CLAIM, {"currency": configured})
        await check_currency(connection, configured)


async def check_currency(connection: AsyncConnection, configured: str) -> None:
    """Raise OtherCurrencyError if the amounts are in another currency. Write nothing."""
    stored = await _stored(connection)
    if stored not in {None, configured}:
        raise OtherCurrencyError(str(stored), configured)


async def _stored(connection: AsyncConnection) -> str | None:
    return (await connection.execute(_CURRENCY)).scalar_one_or_none()
