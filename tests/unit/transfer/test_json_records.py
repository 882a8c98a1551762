"""JSON is read record by record, whatever form it has."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.transfer.reading.record import LONGEST_LINE
from tests.unit.transfer.reading import json_records, refused

_ORDERS: list[dict[str, Any]] = [
    {"id": number, "total": "1.50", "items": [{"sku": "[{"}]} for number in range(300)
]


def _contents(text: str) -> list[Any]:
    return [record.content for record in json_records(text) if record.content is not None]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(_ORDERS),
        json.dumps(_ORDERS, indent=2),
        "\n\ufeff " + json.dumps(_ORDERS, indent=1) + "\n\n",
        "".join(f"{json.dumps(order)}\r\n" for order in _ORDERS),
        json.dumps({"orders": _ORDERS}, indent=2),
        json.dumps({"recoveryEssentials_orders": json.dumps(_ORDERS)}),
    ],
)
def test_every_form_gives_the_same_records(text: str) -> None:
    assert _contents(text) == _ORDERS
    lines = len(text.splitlines())
    assert sum(record.lines for record in json_records(text)) == lines


def test_one_object_on_several_lines_is_a_record() -> None:
    assert _contents(json.dumps(_ORDERS[0], indent=2)) == _ORDERS[:1]


def test_a_broken_line_is_refused_alone() -> None:
    text = '{"id": 1}\n{"id": 2, \n[3]\nNaN\n{"id": NaN}\n{"id": 4}'
    assert [line for line, _, _ in refused(json_records(text))] == [2, 3, 4, 5]
    assert [content["id"] for content in _contents(text) if isinstance(content, dict)] == [1, 4]


def test_a_long_line_is_never_in_memory_as_a_whole() -> None:
    text = '{"id": 1}\n{"id": "' + "x" * (3 * LONGEST_LINE) + '"}\n{"id": 2}\n'
    assert refused(json_records(text)) == [(2, "", "is longer than 1,048,576 characters")]
    assert len(_contents(text)) == 3


def test_the_rest_of_a_broken_array_is_refused_and_counted() -> None:
    text = '[\n{"id": 1},\n{"id": oops},\n{"id": 3}\n]\n'
    records = json_records(text)
    assert [(record.line, record.lines) for record in records] == [(1, 1), (2, 1), (3, 3)]
    assert [line for line, _, _ in refused(records)] == [3]
    cut = json_records('[{"id": 1},\n{"id": 2}')
    assert refused(cut) == [(2, "", "the array does not end")]


_PIECES = st.sampled_from(
    ['{"id": 1}', '{"a": [1, {"b": "}"}]}', '"orders":', "{\n", "\r\n", *'[]{},"\\\n x1é\ufeff']
)


@given(st.lists(_PIECES, min_size=1, max_size=40).map("".join))
def test_every_line_has_an_account(text: str) -> None:
    if not text.strip(" \r\n\t\ufeff"):
        return
    records = json_records(text)
    assert sum(record.lines for record in records) == text.count("\n") + (not text.endswith("\n"))
