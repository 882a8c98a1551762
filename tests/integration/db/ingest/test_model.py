"""Any set of events, shuffled, repeated and split, gives the result of the model in Python."""

import json
import random
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.core.envelope import Entry
from service.db.customers import order_conflicts
from service.db.customers.identity.merge import merge_next
from service.db.customers.order_flags import FLAGS
from service.db.statistics.counters import read_figures
from tests.conftest import Service
from tests.events import cloud_event
from tests.model import USUAL, Customer, Document, Order, Rules, World, settled, world

ORDERS = ["ORD-1", "ORD-2", "ORD-3", "ORD-4"]
IDS = ["e-1", "e-10", "e-2", "E-3", "é", "\uffff", "😀", "z", "~", "a", "b", "c", "d", "f"]
"""Event ids that most collations sort differently than by code point."""
SEED = "seed@x.org"
"""The customer who exists before the batches, as CUST-1001."""
AGES = [
    timedelta(),
    timedelta(hours=1),
    timedelta(days=59),
    timedelta(days=60),
    timedelta(days=60, microseconds=-1) - timedelta(hours=1),
    timedelta(days=61),
    timedelta(days=90),
    timedelta(days=200),
]

persons = st.fixed_dictionaries(
    {
        "email": st.sampled_from(
            ["a@x.org", "a@x.org", "A@X.org ", "b@x.org", "Ünï@x.org", "ÜNÏ@x.org", SEED, "", None]
        ),
        "name": st.sampled_from(["Ann", " Bob", "Zoë", "Max", "  ", "", None]),
    },
    optional={
        "id": st.sampled_from(
            [None, None, "CUST-1001", "CUST-999999", "wc_7", "", 0, "0", 7, "7", 8]
        ),
        "phone": st.sampled_from(["1", "2", "", None]),
    },
)
addresses = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "street": st.sampled_from(["", "1 Main St"]),
        "city": st.sampled_from([None, " ", "Austin", "Göteborg"]),
    },
)
stories = st.fixed_dictionaries(
    {
        "order_id": st.sampled_from(ORDERS),
        "version": st.sampled_from([None, 0, 1, 1, 2]),
        "created": st.sampled_from(AGES),
        "updated": st.sampled_from([None, *AGES[:4]]),
        "sent": st.sampled_from([None, *AGES[:3]]),
        "status": st.sampled_from(["pending", "completed", "completed", "cancelled", "refunded"]),
        "payment": st.sampled_from(
            [None, "paid", "paid", "failed", "partially_refunded", "refunded", "pending"]
        ),
        "amounts": st.sampled_from(
            [
                ("0", None),
                ("99.995", "0.00"),
                ("250", "49.99"),
                ("500.00", "0.01"),
                ("500.00", None),
                ("500.00", "200"),
                ("10.00", "10"),
                ("60.00", "75.00"),
            ]
        ),
        "currency": st.sampled_from(
            [
                (None, None),
                ("USD", "1.5"),
                ("", None),
                ("EUR", None),
                ("EUR", "1.0853"),
                ("GBP", "0.0001"),
            ]
        ),
        "customer": st.one_of(persons, persons, persons, st.none()),
        "address": addresses,
    }
)
some_rules = st.sampled_from(
    [
        Rules(),
        Rules(recency_first=False),
        Rules(vip_orders=2, vip_spent=Decimal("199.99"), at_risk_days=1, inactive_days=61),
        Rules(paid_only=True),
        Rules(free_orders=False),
        Rules(paid_only=True, free_orders=False, vip_orders=2),
    ]
)


def document(story: dict[str, Any], event_id: str, now: datetime) -> Document:
    created = now - story["created"]
    total, refunded = story["amounts"]
    event = cloud_event(
        story["order_id"],
        event_id=event_id,
        version=story["version"],
        created=created,
        status=story["status"],
        payment_status=story["payment"],
        total=total,
        refunded=refunded,
        customer=story["customer"],
        shippingAddress=story["address"],
    )
    event["data"]["currency"], event["data"]["exchangeRate"] = story["currency"]
    event["data"]["dateUpdated"] = None
    if story["updated"] is not None:
        event["data"]["dateUpdated"] = (now - story["updated"]).isoformat()
    if story["sent"] is not None:
        event["time"] = (now - story["sent"]).isoformat()
    return event


def seed(now: datetime) -> Document:
    return cloud_event(
        "ORD-0", event_id="seed", email=SEED, name="Seed", created=now - timedelta(days=10)
    )


def entries(documents: Sequence[Document]) -> list[Entry]:
    started = 1_700_000_000_000
    return [
        Entry(f"{started}-{place}", {b"data": json.dumps(document).encode()})
        for place, document in enumerate(documents)
    ]


def batches(documents: Sequence[Document], rng: random.Random) -> list[list[Document]]:
    """Return the documents, some of them twice, shuffled and split into batches."""
    left = [*documents, *rng.sample(documents, rng.randint(0, len(documents)))]
    rng.shuffle(left)
    split = []
    while left:
        size = rng.randint(1, len(left))
        split.append(left[:size])
        left = left[size:]
    return split


_PERSON = """(
  SELECT min(i.identifier) FROM identifiers i
  WHERE i.customer_id = c.id AND i.identifier NOT LIKE 'customer:%')"""
"""The least identifier of ``customers c``."""


async def stored(service: Service, rules: Rules = USUAL) -> World:
    """Return the stored orders and customers in the form of the model."""
    result = World()
    rows = await service.rows(
        f"SELECT o.*, {_PERSON} AS owner, {FLAGS} AS flags"
        " FROM orders o LEFT JOIN customers c ON c.id = customer_id"
    )
    found = await service.in_transaction(order_conflicts.of_orders, [row["id"] for row in rows])
    for row in rows:
        result.orders[row["id"]] = order = Order(
            row["status"],
            row["payment_status"],
            row["total"],
            row["refunded"],
            row["date_created"],
            row["owner"],
            row["currency"],
            row["exchange_rate"],
            row["flags"],
        )
        if row["id"] in found:
            state, *others = found[row["id"]].events
            assert (state.event_id, state.holds) == (row["event_id"], True)
            order.contradicted_by = {event.event_id for event in others}
        assert (order.counts(rules), order.net) == (row["counts"], row["net"])
    for row in await service.rows(f"SELECT c.*, {_PERSON} AS person FROM customers c"):
        assert row["email"] == row["email_key"]
        result.customers[row["person"]] = Customer(
            row["date_created"],
            row["email"],
            row["name"],
            row["phone"],
            row["address"],
            row["total_orders"],
            row["total_spent"],
            row["first_order_date"],
            row["last_order_date"],
            row["segment"],
        )
    return result


async def kept_figures(service: Service) -> dict[str, tuple[object, ...]]:
    """Return the counters of the segments that have customers."""
    async with service.engine.connect() as connection:
        figures = await read_figures(connection)
    return {segment.value: figure for segment, figure in figures.items() if figure.customers}


_ORDERS = f"""
SELECT to_jsonb(o) - 'customer_id' - 'applied_at' || jsonb_build_object('owner', {_PERSON}) AS row
FROM orders o LEFT JOIN customers c ON c.id = o.customer_id ORDER BY o.id
"""
_CUSTOMERS = f"""
SELECT to_jsonb(c) - 'id' - 'date_updated' - 'segment_sequence' AS row
FROM customers c ORDER BY {_PERSON}
"""


async def tables(service: Service) -> list[dict[str, Any]]:
    """Return all columns that must not depend on the order of arrival."""
    return await service.rows(_ORDERS) + await service.rows(_CUSTOMERS)


async def with_rules(service: Service, rules: Rules) -> None:
    """Save the rules as the settings of an empty service."""
    await service.execute(
        "INSERT INTO settings SELECT 2, now(), 'a test', :orders, :spent, :at_risk, :inactive,"
        " true, :precedence, :count_from, :free_orders",
        orders=rules.vip_orders,
        spent=rules.vip_spent,
        at_risk=rules.at_risk_days,
        inactive=rules.inactive_days,
        precedence="recency_first" if rules.recency_first else "value_first",
        count_from="paid" if rules.paid_only else "placed",
        free_orders=rules.free_orders,
    )


async def merge_all(service: Service, now: datetime) -> None:
    """Merge everybody who is due."""
    while await service.in_transaction(merge_next, now) is not None:
        pass


async def arrive(
    service: Service, documents: Sequence[Document], rules: Rules, now: datetime, rng: random.Random
) -> int:
    """Empty the service and ingest the documents in some order. Return the number of entries."""
    await service.empty()
    await with_rules(service, rules)
    read = 1
    outcomes = [await service.ingest(*entries([seed(now)]), now=now)]
    for batch in batches(documents, rng):
        repeats_expected = rng.random() < 0.5
        outcomes.append(
            await service.ingest(*entries(batch), now=now, repeats_expected=repeats_expected)
        )
        read += len(batch)
        if rng.random() < 0.3:
            await merge_all(service, now)
    await merge_all(service, now)
    counted = settled(outcomes)
    assert counted["applied"] + counted["stale"] + counted["duplicate"] == read
    assert not counted["dead_lettered"]
    (counters,) = await service.rows(
        "SELECT sum(read) AS read, sum(applied) AS applied, sum(stale) AS stale,"
        " sum(duplicate) AS duplicate, sum(conflict) AS conflict FROM ingest_counters"
    )
    assert +settled([counters]) == counted + Counter(read=read)
    return read


@pytest.mark.timeout(600)  # one database for all examples, and each one is verified twice
@settings(
    max_examples=80,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    drawn=st.lists(stories, min_size=6, max_size=len(IDS)),
    ids=st.permutations(IDS),
    rules=some_rules,
    rng=st.randoms(use_true_random=False),
)
async def test_any_order_of_arrival_gives_the_result_of_the_model(
    migrated: Service,
    drawn: list[dict[str, Any]],
    ids: list[str],
    rules: Rules,
    rng: random.Random,
) -> None:
    now = datetime.now(UTC)
    documents = [
        document(story, event_id, now) for story, event_id in zip(drawn, ids, strict=False)
    ]
    expected = world([seed(now), *documents], now, rules, refs={"CUST-1001": f"email:{SEED}"})
    results = []
    for _ in range(2):
        await arrive(migrated, documents, rules, now, rng)
        assert await stored(migrated, rules) == expected
        assert await kept_figures(migrated) == expected.figures
        results.append(await tables(migrated))
    assert results[0] == results[1]
    assert await migrated.findings() == []


async def test_the_model_and_the_service_agree_on_every_segment(migrated: Service) -> None:
    """Without this, the property above could pass with events that reach only a few segments."""
    now = datetime.now(UTC)
    rng = random.Random(7)
    orders = [
        cloud_event(f"ORD-{n}", email=f"{who}@x.org", created=now - timedelta(days=days))
        for n, (who, days) in enumerate(
            [("n", 1), ("r", 1), ("r", 2), ("v", 1), ("v", 1), ("v", 9), ("a", 60), ("i", 90)]
        )
    ]
    await arrive(migrated, orders, Rules(), now, rng)
    result = await stored(migrated)
    assert result == world([seed(now), *orders], now)
    assert {email: customer.segment for email, customer in result.customers.items()} == {
        f"email:{SEED}": "new",
        "email:n@x.org": "new",
        "email:r@x.org": "returning",
        "email:v@x.org": "vip",
        "email:a@x.org": "at_risk",
        "email:i@x.org": "inactive",
    }
    assert await migrated.findings() == []
