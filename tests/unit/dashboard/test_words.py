"""Every code that the service stores has words for the people who read it."""

import re
from pathlib import Path

import pytest

from service.core.hooks import DeliveryOutcome
from service.core.order_event import Reason
from service.core.segment_event import Cause
from service.http.dashboard import words

SERVICE = Path(words.__file__).parents[2]


def test_every_cause_and_every_reason_has_words() -> None:
    assert set(words.CAUSES) == set(Cause)
    assert set(words.REASONS) == set(Reason)
    assert set(words.OUTCOMES) == set(DeliveryOutcome)


def test_every_action_of_the_audit_log_has_words() -> None:
    source = "\n".join(
        path.read_text() for path in SERVICE.rglob("*.py") if path.name != "words.py"
    )
    nouns = (
        "customers?|file|identifier|order|interaction|settings|dead-letters?|loss|rebuild|verify"
        "|hook|list|shop-request|endpoint|tag|view|import|contacts?|field"
    )
    verbs = "split|[a-z_-]+(?:ed|-set|-in|-out|-undone)"
    noted = set(re.findall(rf"[\"']((?:{nouns}|user|key)\.(?:{verbs}))[\"']", source))
    assert noted == set(words.ACTIONS)


def test_codes_of_older_releases_are_shown_as_they_are() -> None:
    assert words.action("order.moved-away") == "Order moved away"
    assert words.reason("bad_luck") == "bad luck"


def test_a_text_after_a_code_begins_with_a_capital_letter() -> None:
    assert words.sentence("the document is not JSON") == "The document is not JSON"
    assert words.sentence("`data.id` is missing") == "`data.id` is missing"
    assert not words.sentence("")


@pytest.mark.parametrize(
    ("actor", "shown"),
    [
        ("nobody", ""),
        ("local", "by the local user"),
        ("cli:ann", "by ann (command line)"),
        ("hook:shopify my-shop.example", "by my-shop.example (webhook)"),
        ("jane@example.com", "by jane@example.com"),
    ],
)
def test_an_actor_is_named_for_people(actor: str, shown: str) -> None:
    assert words.by(actor) == shown
