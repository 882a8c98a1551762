"""The e-mails that a customer had before staff corrected them.

The order system keeps sending the old e-mail, and old events can arrive again. Such an e-mail
still means the same customer, until another customer gets it.
"""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_KEEP = text("""
INSERT INTO former_emails (email_key, customer_id) VALUES (:email_key, :id)
ON CONFLICT (email_key) DO UPDATE SET customer_id = excluded.customer_id
""")
_RELEASE = text("DELETE FROM former_emails WHERE email_key = :email_key")
_FORMER = text("SELECT email_key FROM former_emails WHERE customer_id = :id ORDER BY email_key")


async def keep(connection: AsyncConnection, customer_id: int, email: str) -> None:
    """Record that a customer had this e-mail until now."""
    await connection.execute(_KEEP, {"id": customer_id, "email_key": email.lower()})


async def release(connection: AsyncConnection, email: str) -> None:
    """Forget whose former e-mail this is, because a customer has it now."""
    await connection.execute(_RELEASE, {"email_key": email.lower()})


async def email_keys(connection: AsyncConnection, customer_id: int, email: str) -> list[str]:
    """Return all e-mails that mean a customer: the current ``email``, then the former ones."""
    former = (await connection.execute(_FORMER, {"id": customer_id})).scalars()
    return [email.lower(), *former]
