"""Log lines name errors by class, and ids only if they cannot name a person."""

import json
import logging

import pytest

from service.logs import formatter, plain

NAME, EMAIL = "Marker Mustermann", "marker.secret@example.org"


def test_an_error_that_ends_the_process_is_logged_by_its_class_only(
    crm_error: logging.LogRecord,
) -> None:
    line = json.loads(formatter("json").format(crm_error))
    assert line["error"].endswith("builtins.ValueError")
    assert EMAIL not in json.dumps(line)


@pytest.fixture
def crm_error() -> logging.LogRecord:
    """Return the log record of an error that names a person in its message and in an attribute."""
    error = ValueError(EMAIL)
    return logging.makeLogRecord(
        {"msg": "it ends", "exc_info": (ValueError, error, None), "email": EMAIL}
    )


@pytest.mark.parametrize("id_", ["ORD-1001", "0b6f6f0e-1", "shop/eu:12.3", "1+2_3"])
def test_ids_are_shown(id_: str) -> None:
    assert plain(id_) == id_


@pytest.mark.parametrize("id_", [EMAIL, NAME, "a\nb", "", "x" * 81, None, 5, "ü"])
def test_an_id_that_may_name_a_person_is_not_shown(id_: object) -> None:
    assert plain(id_) == "(not shown)"
