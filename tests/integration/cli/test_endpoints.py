"""``crm hooks``: endpoints from the command line."""

import json
from pathlib import Path

from standardwebhooks import Webhook
from typer.testing import Result

from service.core.endpoints import make_secret
from tests.conftest import Service
from tests.integration.cli.test_keys_and_users import Run, run
from tests.receiver import receiving

__all__ = ["run"]  # a fixture


def failed(result: Result) -> str:
    assert result.exit_code != 0, result.output
    return result.stderr


async def test_an_endpoint_is_registered_tested_and_removed(
    service: Service, run: Run, tmp_path: Path
) -> None:
    async with receiving() as receiver:
        refused = failed(await run("hooks", "add-endpoint", receiver.url))
        assert "must begin with https" in refused
        https = receiver.url.replace("http:", "https:")
        refused = failed(await run("hooks", "add-endpoint", https))
        assert "127.0.0.1 is in a private network" in refused
        assert "--allow-private" in refused
        made = await run("hooks", "add-endpoint", receiver.url, "--allow-private")
        assert made.exit_code == 0, made.output
        secret = made.stdout.strip()
        (listed,) = json.loads((await run("hooks", "endpoints", "--json")).stdout)
        assert (listed["url"], listed["state"]) == (receiver.url, "active")
        assert secret not in str(listed)
        assert "took the event" in (await run("hooks", "test", "1")).stdout
        (event,) = receiver.taken
        assert event.document["type"] == "crm.test"
        Webhook(secret).verify(event.body, event.headers)
        new = tmp_path / "secret"
        new.write_text(make_secret())
        renewed = await run("hooks", "renew-secret", "1", "--secret-file", str(new), "--keep", "0")
        assert renewed.stdout.strip() == new.read_text()
        await run("hooks", "test", "1")
        Webhook(new.read_text()).verify(receiver.taken[1].body, receiver.taken[1].headers)
        assert len(receiver.taken[1].headers["webhook-signature"].split(" ")) == 1
    assert "cannot be reached" in failed(await run("hooks", "test", "1"))
    assert (await run("hooks", "pause", "1", "--why", "maintenance")).exit_code == 0
    assert "maintenance" in (await run("hooks", "endpoints")).stdout
    assert (await run("hooks", "resume", "1")).exit_code == 0
    replayed = await run("hooks", "replay", "1", "--from", "2026-01-01T00:00:00Z")
    assert replayed.stdout == "0 events will be sent again to endpoint 1\n"
    assert (await run("hooks", "remove-endpoint", "1")).exit_code == 0
    assert "No endpoints" in (await run("hooks", "endpoints")).stdout
    rows = await service.rows("SELECT actor FROM audit WHERE action = 'endpoint.removed'")
    assert rows[0]["actor"].startswith("cli:")


async def test_what_is_wrong_is_said(service: Service, run: Run, tmp_path: Path) -> None:
    assert "no endpoint 7" in failed(await run("hooks", "pause", "7"))
    assert "with an offset" in failed(
        await run("hooks", "add-endpoint", "https://8.8.8.8/", "--from", "yesterday")
    )
    file = tmp_path / "secret"
    file.write_text("hunter2")
    said = failed(
        await run("hooks", "add-endpoint", "https://8.8.8.8/", "--secret-file", str(file))
    )
    assert "24 to 64 random bytes" in said
    assert "hunter2" not in said
    missing = str(tmp_path / "missing")
    said = failed(await run("hooks", "add-endpoint", "https://8.8.8.8/", "--secret-file", missing))
    assert "cannot be read" in said
    assert await service.rows("SELECT 1 FROM endpoints") == []
