"""Faults that the service once had, each as the operations that showed it."""

from dataclasses import replace

import httpx
import pytest

from tests.conftest import Service
from tests.system.state_machine.machine import Machine, run
from tests.system.state_machine.operations import (
    Change,
    Create,
    Edit,
    Erase,
    Mark,
    Merge,
    Operation,
    Publish,
    Split,
    Story,
    Wait,
)

ANN = Story(
    order="ORD-1",
    version=1,
    created=1,
    updated=0,
    status="completed",
    payment="paid",
    amounts=("500", "0"),
    email="a@x.org",
    by_ref=None,
    name="Ann",
    phone=None,
)
AHEAD = replace(ANN, created=-0.25)
"""An order placed by a clock that runs six hours ahead."""
ANNS = Publish((ANN,))
AGAIN = Publish((replace(ANN, order="ORD-2", email="b@x.org"),), again=(0,))

FOUND: dict[str, list[Operation]] = {
    "a hold ends while automatic segments are off": [
        ANNS,
        Edit(0, {"segment": "new", "segmentPinnedUntil": 1}),
        Change({"autoSegmentation": False}),
        Wait(5),
    ],
    "a cancelled order dated ahead is no next order": [
        Publish((replace(AHEAD, status="cancelled"),)),
        Edit(0, {"segment": "at_risk"}),
        AGAIN,
    ],
    "an order dated ahead does not bring an erased person back": [
        Publish((AHEAD,)),
        Erase(0),
        AGAIN,
    ],
    "events with a former e-mail do not bring an erased person back": [
        ANNS,
        Edit(0, {"email": "d@x.org"}),
        Erase(0),
        AGAIN,
    ],
    "a late event that names an erased person marks its order": [
        ANNS,
        Publish((replace(ANN, order="ORD-2", email=None),)),
        Erase(0),
        Publish((replace(ANN, order="ORD-2", version=0),)),
    ],
    "a former e-mail that another customer has now stays that customer's": [
        ANNS,
        Edit(0, {"email": "d@x.org"}),
        Create({"email": "a@x.org", "name": "Abe"}),
        Publish((replace(ANN, order="ORD-3"),)),
        Erase(1),
        AGAIN,
    ],
    "orders with a former e-mail are still that customer's": [
        ANNS,
        Edit(0, {"email": "d@x.org"}),
        Publish((replace(ANN, order="ORD-3"), replace(ANN, version=0)), again=(0,)),
    ],
    "an e-mail that came with an id while it was no person is theirs once the mark is gone": [
        Mark("email:b@x.org"),
        Publish((replace(ANN, email="b@x.org", external="7"),)),
        Mark("email:b@x.org"),
    ],
    "a split takes back what staff had typed for the other one": [
        Publish((ANN, replace(ANN, order="ORD-2", email="b@x.org", name="Bob"))),
        Edit(1, {"name": "Zoë", "phone": "1"}),
        Merge(0, 1),
        Wait(1),
        Split(0, 0b110),
    ],
    "the ids of two merged customers are split off at once": [
        Publish(
            (
                ANN,
                replace(ANN, order="ORD-2", email="b@x.org", name="Bob"),
                replace(ANN, order="ORD-3", email="C@x.org", name="Zoë"),
            )
        ),
        Merge(0, 1),
        Merge(0, 1),
        Split(0, 0b11110),
    ],
    "whoever was marked as no person is not two people with anybody": [
        Publish((ANN, replace(ANN, order="ORD-2", email="b@x.org", external="7"))),
        Merge(0, 1),
        Split(0, 0b1),
        Mark("email:a@x.org"),
    ],
    "a split after one of both profiles was erased": [
        Publish((ANN, replace(ANN, order="ORD-2", email="b@x.org", name="Bob"))),
        Publish((replace(ANN, order="ORD-3", email="C@x.org", name="Zoë"),)),
        Merge(0, 1),
        Merge(0, 1),
        Split(0, 0b1),
        Erase(1),
        Split(0, 0b101),
    ],
    "an e-mail is corrected back and forth": [
        ANNS,
        Edit(0, {"email": "d@x.org"}),
        Edit(0, {"email": "A@x.org"}),
        Create({"email": "d@x.org", "name": "Abe"}),
        Publish((replace(ANN, order="ORD-3"), replace(ANN, order="ORD-4", email="d@x.org"))),
    ],
}


@pytest.mark.parametrize("story", FOUND)
async def test_a_known_fault_does_not_come_back(
    migrated: Service, http: httpx.AsyncClient, story: str
) -> None:
    await run(migrated, http, FOUND[story])


async def test_an_earlier_hold_that_has_run_out_does_not_end_the_next_one(
    empty_service: Service, http: httpx.AsyncClient
) -> None:
    machine = Machine(empty_service, http)
    await machine.do(ANNS)
    await machine.do(Edit(0, {"segment": "new", "segmentPinnedUntil": 1}))
    await empty_service.execute("UPDATE customers SET segment_pinned_until = now()")
    answer = await http.patch("/api/v1/customers/CUST-1001", json={"segment": "inactive"})
    assert (answer.json()["segment"], answer.json()["segmentSource"]) == ("inactive", "manual")
    assert await empty_service.findings() == []
