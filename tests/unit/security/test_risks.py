"""The OWASP API Security Top 10 of 2023: what each risk is here, and the tests that hold it off."""

import ast
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.paths import ROOT

TESTS = ROOT / "tests"


class Risk(NamedTuple):
    """A risk, what keeps it off, and the tests that show it: ``folder/file::test``."""

    name: str
    here: str
    tests: tuple[str, ...]


RISKS = {
    "API1": Risk(
        "Broken object level authorization",
        "Whoever may read may read every customer: that is what the service is for. What hangs "
        "below a customer is reached through that customer only, and what dead letters hold is "
        "shown to who may write.",
        (
            "system/security/test_api::test_an_interaction_is_reached_through_its_customer_only",
            "system/security/test_api::test_a_cursor_of_one_customer_shows_nothing_of_another",
            "integration/operations/dead_letters/test_over_http::test_fields_are_shown_only_with_the_scope_write_or_admin",
            "integration/customers/test_editing::test_nobody_is_not_found",
        ),
    ),
    "API2": Risk(
        "Broken authentication",
        "Keys of 256 random bits, kept as hashes; passwords in Argon2id; expiry and revocation in "
        "seconds; failures limited and told in the same words.",
        (
            "integration/http/auth/test_every_route::test_who_has_no_valid_key_gets_nowhere",
            "integration/http/auth/test_keys::test_whatever_is_wrong_with_a_key_is_told_in_the_same_words",
            "integration/http/auth/test_keys::test_revoking_acts_when_the_memory_of_the_key_ends",
            "integration/http/auth/test_keys::test_only_a_hash_is_stored_and_the_audit_names_the_key",
            "integration/http/auth/test_limits::test_who_fails_to_authenticate_is_limited_more_strictly",
            "integration/http/auth/test_users::test_who_does_not_exist_takes_as_long_to_refuse",
            "integration/http/auth/test_local::test_it_refuses_to_start_for_others",
        ),
    ),
    "API3": Risk(
        "Broken object property level authorization",
        "Bodies name what may be written and refuse all else; who and when is the service's to "
        "say. Logs, audit and the stream out carry no personal data.",
        (
            "system/security/test_api::test_what_is_computed_cannot_be_sent",
            "system/security/test_api::test_nobody_signs_for_another",
            "system/security/test_api::test_every_body_refuses_what_it_does_not_know",
            "integration/http/activity/test_activity::test_nobodys_e_mail_is_told_even_when_it_was_edited",
            "integration/http/auth/test_logs::test_a_line_per_request_names_nobody",
        ),
    ),
    "API4": Risk(
        "Unrestricted resource consumption",
        "Requests per caller, bodies, heads, pages, exports and live streams have limits, and "
        "everything that can be slow has a deadline. Connections are the proxy's to count.",
        (
            "integration/http/auth/test_limits::test_a_caller_who_asks_too_often_is_told_when_to_come_back",
            "integration/http/auth/test_limits::test_a_body_has_a_largest_size_announced_or_not",
            "integration/http/auth/test_limits::test_a_request_that_does_not_answer_is_given_up",
            "integration/bad_input/test_wire::test_what_never_ends_is_given_up_and_holds_up_nobody",
            "system/security/test_api::test_every_parameter_is_bounded",
            "system/security/test_api::test_an_answer_does_not_grow_with_the_mistakes_of_a_request",
            "integration/transfer/test_streaming::test_no_more_than_two_at_once",
            "integration/http/activity/test_activity::test_streams_are_limited",
        ),
    ),
    "API5": Risk(
        "Broken function level authorization",
        "Every operation names its scope, and each scope is tried against each operation.",
        (
            "integration/http/auth/test_every_route::test_each_scope_opens_what_is_documented_and_nothing_else",
            "integration/http/auth/test_every_route::test_the_document_leaves_out_no_route_of_the_api",
            "integration/http/auth/test_keys::test_every_operation_says_which_scope_it_needs",
            "integration/segments/settings/test_settings::test_only_an_admin_may_save",
        ),
    ),
    "API6": Risk(
        "Unrestricted access to sensitive business flows",
        "Taking all customers away needs a scope of its own; that, erasing, replaying and "
        "discarding, and new rules leave who did it in the audit. Rules are previewed first, "
        "and two who save at once do not overwrite each other.",
        (
            "system/security/test_api::test_who_does_what_cannot_be_undone_is_known",
            "integration/segments/settings/test_settings::test_saving_is_refused_if_somebody_else_has_changed_the_settings",
            "integration/operations/dead_letters/test_over_http::test_discarding_keeps_the_actor_and_the_reason_but_no_content",
        ),
    ),
    "API7": Risk(
        "Server side request forgery",
        "There is none: no request names an address to fetch, and the code has no client but "
        "those of Postgres and Redis.",
        ("system/security/test_api::test_nothing_here_fetches_what_a_caller_names",),
    ),
    "API8": Risk(
        "Security misconfiguration",
        "Safe headers on every answer, no CORS, no name of the server, no stack trace, pages "
        "without scripts from elsewhere; without credentials it serves this machine only.",
        (
            "integration/http/auth/test_limits::test_every_answer_has_safe_headers",
            "system/security/test_api::test_a_real_process_says_nothing_of_itself",
            "integration/http/test_docs::test_everything_is_there_and_nothing_comes_from_elsewhere",
            "integration/http/auth/test_logs::test_an_error_is_told_by_its_class_and_its_causes",
            "integration/http/auth/test_local::test_pages_of_other_origins_may_not_write",
            "integration/http/auth/test_local::test_a_name_that_was_made_to_lead_here_does_not",
            "system/security/test_secrets::test_no_secret_is_in_the_tree",
        ),
    ),
    "API9": Risk(
        "Improper inventory management",
        "One version. Every route is in the OpenAPI document, which is generated and compared; "
        "what is not, is on a short list.",
        (
            "system/security/test_api::test_every_route_is_documented_or_one_of_a_few",
            "integration/contracts/test_contracts::test_what_is_checked_in_is_what_the_code_says",
            "unit/security/test_supply::test_every_package_that_is_shipped_has_an_allowed_licence",
        ),
    ),
    "API10": Risk(
        "Unsafe consumption of APIs",
        "Events and imported files are strangers' input: judged field by field, bound in size, "
        "stored as parameters, defused in spreadsheets.",
        (
            "integration/bad_input/test_stream::test_each_is_refused_with_its_reason_and_comes_back_to_the_byte",
            "integration/bad_input/test_stream::test_nothing_anybody_writes_stops_a_worker",
            "unit/core/test_order_event::test_no_mutation_of_a_document_makes_it_raise",
            "integration/ingest/test_order_event::test_an_accepted_event_is_stored_and_read_back",
            "integration/transfer/test_import::test_broken_lines_are_refused_one_by_one",
            "integration/transfer/test_export::test_formulas_are_defused",
        ),
    ),
}


@cache
def names_in(file: Path) -> set[str]:
    """Read the names of a file's tests."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {it.name for it in ast.parse(file.read_text()).body if isinstance(it, kinds)}


def test_all_ten_are_answered() -> None:
    assert list(RISKS) == [f"API{number}" for number in range(1, 11)]


@pytest.mark.parametrize("risk", RISKS)
def test_what_is_said_to_hold_it_off_exists(risk: str) -> None:
    assert RISKS[risk].tests
    for test in RISKS[risk].tests:
        path, _, name = test.partition("::")
        assert name in names_in(TESTS / f"{path}.py"), test
