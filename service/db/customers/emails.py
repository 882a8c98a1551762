"""The e-mails that a customer had before staff corrected them.

Order management goes on naming people by those, and old events come again: they mean the same
person for as long as the e-mail is nobody else's.
"""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_KEEP = text("""
INSERT INTO former_emails (email_key, customer_id) VALUES (:email_key, :id)
ON CONFLICT (email_key) DO UPDATE SET customer_id = excluded.customer_id
""")
_TAKE = text("DELETE FROM former_emails WHERE email_key = :email_key")
_FORMER = text("SELECT email_key FROM former_emails WHERE customer_id = :id ORDER BY email_key")


async def keep(connection: AsyncConnection, customer_id: int, email: str) -> None:
    """Note that a customer had this e-mail until now."""
    await connection.execute(_KEEP, {"id": customer_id, "email_key": email.lower()})


async def take(connection: AsyncConnection, email: str) -> None:
    """Note that this e-mail is somebody's from now on, and nobody's former one."""
    await connection.execute(_TAKE, {"email_key": email.lower()})


async def email_keys(connection: AsyncConnection, customer_id: int, email: str) -> list[str]:
    """Give the e-mails that mean a customer: the present one, then those they had."""
    former = (await connection.execute(_FORMER, {"id": customer_id})).scalars()
    return [email.lower(), *former]
