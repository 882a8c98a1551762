"""Exports that shops have published, imported as they are: equal to the cent.

The files are not part of the project. Where they are absent, these tests are skipped.
"""

import csv
import os
import re
import shlex
import shutil
from decimal import Decimal
from pathlib import Path

import pytest

from service.transfer.lines import Verdict
from tests.conftest import Service
from tests.integration.cli.conftest import Crm
from tests.integration.transfer.files import load
from tests.paths import ROOT

FILES = Path(os.environ.get("CRM_TEST_SHOP_FILES", "no files of real shops"))

pytestmark = pytest.mark.skipif(not FILES.is_dir(), reason="no files of real shops here")


async def test_the_orders_of_a_shop_give_the_figures_that_are_known(service: Service) -> None:
    path = FILES / "shopify-us-orders.ours.csv"
    done = await load(service, path)
    assert (done.counts, done.refused) == ({Verdict.NEW: 409}, 0)
    (figures,) = await service.rows(
        "SELECT count(*) AS customers, count(*) FILTER (WHERE total_orders = 0) AS without,"
        " sum(total_orders) AS orders, sum(total_spent) AS revenue,"
        " round(100.0 * count(*) FILTER (WHERE total_orders > 1)"
        "  / count(*) FILTER (WHERE total_orders > 0), 2) AS repeated FROM customers"
    )
    assert figures == {
        "customers": 296,
        "without": 28,
        "orders": 341,
        "revenue": Decimal("60371.89"),
        "repeated": Decimal("12.69"),
    }
    unattributed = await service.rows("SELECT 1 FROM orders WHERE customer_id IS NULL")
    assert len(unattributed) == 19
    with (FILES / "shopify-us-oracle.csv").open(newline="") as file:
        expected = {
            row["email"]: (int(row["readme_total_orders"]), Decimal(row["readme_total_spent"]))
            for row in csv.DictReader(file)
            if row["email"]
        }
    rows = await service.rows("SELECT email_key, total_orders, total_spent FROM customers")
    assert {row["email_key"]: (row["total_orders"], row["total_spent"]) for row in rows} == expected
    changes = await service.rows(
        "SELECT customer_id, count(*) AS changes, min(cause) AS cause FROM segment_changes"
        " GROUP BY customer_id"
    )
    assert {(row["changes"], row["cause"]) for row in changes} == {(1, "import")}
    assert len(changes) == 296
    again = await load(service, path)
    assert again.counts == {Verdict.UNCHANGED: 409}
    assert await service.findings() == []
    # Shopify's own export of the same shop, over our columns: the same orders by the same ids.
    same = await load(service, FILES / "shopify-us-orders.csv", apply=False)
    assert (same.format, same.refused, same.lines) == ("shopify-orders", 0, 208)
    assert same.counts[Verdict.NEW] == 0
    customers = await load(service, FILES / "shopify-us-customers.csv")
    assert (customers.refused, customers.lines_read) == (0, 100)
    assert await service.findings() == []


@pytest.mark.parametrize(
    ("name", "lines", "orders", "named"),
    [
        ("shopify-us-orders.csv", 208, 114, {"email": 95, "phone": 18, "": 1}),
        ("shopify-tr-orders.csv", 320, 79, {"email": 49, "phone": 29, "": 1}),
        ("shopify-bd-orders-no-email.csv", 508, 57, {"phone": 57}),
    ],
)
async def test_shopifys_exports_are_read_whole(
    service: Service, name: str, lines: int, orders: int, named: dict[str, int]
) -> None:
    done = await load(service, FILES / name)
    assert (done.lines, done.counts, done.refused) == (lines, {Verdict.NEW: orders}, 0)
    assert done.named_by == named
    assert await service.findings() == []


async def test_the_recipes_fit_the_files(service: Service, tmp_path: Path) -> None:
    crm = Crm(service.servers, tmp_path)
    text = (ROOT / "docs/importing.md").read_text()
    recipes = {
        words[2]: words[3:]
        for block in re.findall(r"```sh\n(crm import .*?)```", text, re.DOTALL)
        if (words := shlex.split(block.replace("\\\n", " ")))
    }
    for name, file, new, refused in (
        ("audience.csv", "mailchimp-audience.csv", 2, 0),
        ("payments.csv", "stripe-payments-semicolon.csv", 178, 2),
        ("EtsySoldOrders.csv", "etsy-sold-orders-2022.csv", 150, 0),
    ):
        shutil.copyfile(FILES / file, tmp_path / name)
        done = await crm("import", str(tmp_path / name), *recipes[name], "--json")
        assert (done.document["new"], done.document["refused"]) == (new, refused)
    assert await service.findings() == []
