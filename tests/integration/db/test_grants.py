"""Each role may do what its processes do, and no more."""

import re
from collections.abc import Mapping

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from service.db import migrate
from service.db.engine import create_engine, sqlstate
from service.db.grants import GUARDED, VERIFY, VERIFY_WRITES, WEB, WEB_WRITES, WORKER
from service.db.schema import metadata
from tests import roles
from tests.conftest import Service

_REFUSED = "42501"
_WRITES = "INSERT, UPDATE, DELETE"
_OWN_STATEMENTS = (
    "CREATE TABLE mine (id int)",
    "CREATE INDEX mine ON customers (notes)",
    "ALTER TABLE customers ADD COLUMN mine int",
    "DROP TABLE customers CASCADE",
    "TRUNCATE sessions",
    "CREATE ROLE mine",
    "ALTER TABLE users OWNER TO crm_web",
    "UPDATE alembic_version SET version_num = '9999'",
    "COPY customers TO '/tmp/mine'",
    "SET ROLE crm",
)
"""Statements that belong to the owner or to an administrator."""
_GRANTED = """
SELECT c.relname AS table, p.privilege
FROM pg_class c, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES',
  'TRIGGER']) AS p (privilege)
WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
  AND has_table_privilege(:role, c.oid, p.privilege)
ORDER BY 1, 2
"""


def _expected(role: str, writes: Mapping[str, str]) -> set[tuple[str, str]]:
    tables = (*metadata.tables, "alembic_version")
    hidden = {table for table, guarded in GUARDED.items() if guarded.reader != role}
    return {(table, "SELECT") for table in tables if table not in hidden} | {
        (table, one)
        for table, rights in writes.items()
        for one in re.split(r", (?![^(]*\))", rights)
        if "(" not in one  # columns, of which Postgres says nothing for the whole table
    }


@pytest.mark.parametrize(
    ("role", "writes"),
    [
        (WORKER, dict.fromkeys(metadata.tables, _WRITES)),
        (WEB, WEB_WRITES),
        (VERIFY, VERIFY_WRITES),
    ],
    ids=[WORKER, WEB, VERIFY],
)
async def test_a_role_has_exactly_the_rights_that_are_listed(
    migrated: Service, role: str, writes: Mapping[str, str]
) -> None:
    rows = await migrated.rows(_GRANTED, role=role)
    assert {(row["table"], row["privilege"]) for row in rows} == _expected(role, writes)


@pytest.mark.parametrize("role", [WORKER, WEB, VERIFY])
@pytest.mark.parametrize("statement", _OWN_STATEMENTS)
async def test_only_the_owner_defines_the_schema(
    migrated: Service, role: str, statement: str
) -> None:
    engine = create_engine(migrated.servers.url_of(role), application="crm tests")
    try:
        with pytest.raises(ProgrammingError) as refused:
            async with engine.begin() as connection:
                await connection.execute(text(statement))
        assert sqlstate(refused.value) == _REFUSED
    finally:
        await engine.dispose()


async def test_no_role_administers_the_server(migrated: Service) -> None:
    if migrated.servers.admin_url is None:
        pytest.skip("the owner may be a superuser of a server that was given from outside")
    rows = await migrated.rows(
        "SELECT rolname FROM pg_roles WHERE rolname IN ('crm', :worker, :web, :verify)"
        " AND (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)",
        worker=WORKER,
        web=WEB,
        verify=VERIFY,
    )
    assert rows == []


async def test_the_roles_file_may_run_again(migrated: Service) -> None:
    """Also on a database with tables. Then `crm migrate` has nothing left to grant."""
    if migrated.servers.admin_url is None:
        pytest.skip("needs an administrator")
    before = [await migrated.rows(_GRANTED, role=role) for role in (WEB, VERIFY)]
    connection = await asyncpg.connect(migrated.servers.admin_url)
    try:
        await connection.execute(roles.SQL.read_text())
        assert [await migrated.rows(_GRANTED, role=role) for role in (WEB, VERIFY)] == before
    finally:
        await connection.close()
        await migrate.upgrade(migrated.servers.database_url)
    assert [await migrated.rows(_GRANTED, role=role) for role in (WEB, VERIFY)] == before


@pytest.mark.parametrize("column", ["salt", "salt_digest", "sign_in_since"])
async def test_a_web_process_changes_no_secret_of_the_installation(
    migrated: Service, column: str
) -> None:
    connection = await asyncpg.connect(migrated.servers.url_of(WEB))
    try:
        await connection.execute("UPDATE installation SET erasures = erasures")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(f"UPDATE installation SET {column} = {column}")
    finally:
        await connection.close()


@pytest.mark.parametrize("role", [WEB, VERIFY])
async def test_only_workers_read_the_secrets_of_endpoints(migrated: Service, role: str) -> None:
    connection = await asyncpg.connect(migrated.servers.url_of(role))
    try:
        await connection.execute("SELECT endpoint_id, expires_at FROM endpoint_secrets")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("SELECT secret FROM endpoint_secrets")
    finally:
        await connection.close()
