"""``crm hooks``."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from service.cli.main import app
from tests.conftest import Service
from tests.integration.http.conftest import client
from tests.integration.http.hooks.shop import SECRET, SHOP, Shop, shopify_order
from tests.processes import environment

Run = Callable[..., Awaitable[Result]]


@pytest.fixture
def run(service: Service) -> Run:
    """Return a function that runs a command on the servers of the test."""
    env = environment(service.servers)

    async def invoke(*arguments: str, typed: str = "") -> Result:
        # In another thread, because a command starts its own event loop.
        return await asyncio.to_thread(
            lambda: CliRunner().invoke(app, list(arguments), input=typed, env=env)
        )

    return invoke


async def test_a_shop_is_added_listed_rotated_and_removed(
    service: Service, run: Run, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n")
    shop = ["shopify", "--domain", f"https://{SHOP.upper()}/"]
    added = await run("hooks", "add", *shop, "--secret-file", str(file))
    assert added.exit_code == 0, added.output
    assert SECRET not in added.output
    again = await run("hooks", "add", *shop, "--secret-file", str(file))
    assert again.exit_code == 1
    assert "crm hooks rotate" in again.output
    async with client(service) as http:
        answer = await Shop(http).send("orders/create", shopify_order(updated=datetime.now(UTC)))
        assert answer.status_code == 200
    rotate = [*shop, "--secret-file", "-", "--overlap", "12h"]
    rotated = await run("hooks", "rotate", *rotate, typed="another-secret-of-the-shop")
    assert rotated.exit_code == 0, rotated.output
    listed = await run("hooks", "list", "--json")
    [hook] = json.loads(listed.stdout)
    assert (hook["domain"], hook["secrets"], hook["lastFailure"]) == (SHOP, 2, None)
    assert hook["lastDeliveryAt"]
    assert SHOP in (await run("hooks", "list")).stdout
    assert (await run("hooks", "remove", *shop)).exit_code == 0
    assert "No webhooks" in (await run("hooks", "list")).output
    assert await service.rows("SELECT 1 FROM hook_secrets") == []
    actions = await service.rows("SELECT action, details FROM audit ORDER BY id")
    assert [row["action"] for row in actions] == ["hook.created", "hook.rotated", "hook.removed"]
    assert SECRET not in str(actions)


@pytest.mark.parametrize(
    ("arguments", "typed", "said"),
    [
        (["add", "shopify", "--domain", "a shop"], SECRET, "is no domain"),
        (["add", "shopify", "--domain", SHOP], "short", "must be one word"),
        (["add", "shopify", "--domain", SHOP], "two words of a poem", "must be one word"),
        (["rotate", "shopify", "--domain", SHOP], SECRET, "there is no hook"),
    ],
)
async def test_what_cannot_be_is_refused_with_a_sentence(
    run: Run, arguments: list[str], typed: str, said: str
) -> None:
    refused = await run("hooks", *arguments, "--secret-file", "-", typed=typed)
    assert refused.exit_code != 0
    assert said in refused.output
