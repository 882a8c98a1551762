"""The roles of ``deploy/postgres/roles.sql`` on the servers of the tests."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import asyncpg

from service.db.grants import VERIFY, WEB, WORKER
from tests.paths import ROOT

PASSWORD = "test"
SECONDS = 60
SQL = ROOT / "deploy" / "postgres" / "roles.sql"


def create_roles(admin_url: str, database_url: str) -> None:
    """Create the roles as an administrator does, unless all of them can sign in already."""
    # The caller may be inside an event loop.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: asyncio.run(_create(admin_url, database_url))).result(SECONDS)


async def _create(admin_url: str, database_url: str) -> None:
    if all([await _can_sign_in(url_of(role, database_url)) for role in (WORKER, WEB, VERIFY)]):
        return
    connection = await asyncpg.connect(admin_url)
    try:
        await connection.execute(SQL.read_text())
        for role in (WORKER, WEB, VERIFY):
            await connection.execute(f"ALTER ROLE {role} PASSWORD '{PASSWORD}'")
        # As the owner, tests look at sessions of the other roles, and end them.
        await connection.execute("GRANT pg_read_all_stats, pg_signal_backend TO crm")
    finally:
        await connection.close()


async def _can_sign_in(url: str) -> bool:
    try:
        connection = await asyncpg.connect(url)
    except asyncpg.InvalidAuthorizationSpecificationError:
        return False
    await connection.close()
    return True


def url_of(role: str, database_url: str) -> str:
    """Return the URL with another role."""
    scheme, _, rest = database_url.partition("://")
    return f"{scheme}://{role}:{PASSWORD}@{rest.rpartition('@')[2]}"


def superuser_url(database_url: str, password: str) -> str:
    """Return the URL for the superuser of an embedded server."""
    scheme, _, rest = database_url.partition("://")
    return f"{scheme}://postgres:{password}@{rest.rpartition('@')[2]}"
