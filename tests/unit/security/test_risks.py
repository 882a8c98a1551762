"""The OWASP API Security Top 10 of 2023: what each risk means here, and the tests against it."""

import ast
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.paths import ROOT

TESTS = ROOT / "tests"


class Risk(NamedTuple):
    """A risk, the defence against it, and the tests of that defence: ``folder/file::test``."""

    name: str
    here: str
    tests: tuple[str, ...]


RISKS = {
    "API1": Risk(
        "Broken object level authorization",
        "A reader may read every customer: that is what the service is for. The parts of a "
        "customer are reached through that customer only, and the contents of dead letters are "
        "shown only to those who may write.",
        (
            "system/security/test_api::test_an_interaction_is_reached_through_its_customer_only",
            "system/security/test_api::test_a_cursor_of_one_customer_shows_nothing_of_another",
            "integration/operations/dead_letters/test_over_http::test_what_it_holds_is_for_who_may_write_or_administer",
            "integration/customers/test_editing::test_nobody_is_not_found",
        ),
    ),
    "API2": Risk(
        "Broken authentication",
        "Keys of 256 random bits, kept as hashes; passwords in Argon2id; expiry and revocation in "
        "seconds; failed attempts are limited, and the answer never says what was wrong.",
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
        "Bodies list the fields that may be written and refuse all others; the service itself "
        "records who and when. Logs, audit and the out-stream carry no personal data.",
        (
            "system/security/test_api::test_computed_fields_cannot_be_sent",
            "system/security/test_api::test_nobody_can_name_another_author",
            "unit/security/test_api::test_every_body_refuses_unknown_fields",
            "integration/http/activity/test_activity::test_nobodys_e_mail_is_told_even_when_it_was_edited",
            "integration/http/auth/test_logs::test_a_line_per_request_names_nobody",
        ),
    ),
    "API4": Risk(
        "Unrestricted resource consumption",
        "Requests per caller, bodies, heads, pages, exports and live streams have limits, and "
        "everything that can be slow has a deadline. The proxy limits connections.",
        (
            "integration/http/auth/test_limits::test_a_caller_who_asks_too_often_is_told_when_to_come_back",
            "integration/http/auth/test_limits::test_a_body_has_a_largest_size_announced_or_not",
            "integration/http/auth/test_limits::test_a_request_that_does_not_answer_is_given_up",
            "integration/bad_input/test_wire::test_a_request_that_never_ends_is_given_up_and_delays_no_other",
            "unit/security/test_api::test_every_parameter_is_bounded",
            "system/security/test_api::test_an_answer_does_not_grow_with_the_mistakes_of_a_request",
            "integration/transfer/test_streaming::test_no_more_than_two_at_once",
            "integration/http/activity/test_activity::test_streams_are_limited",
        ),
    ),
    "API5": Risk(
        "Broken function level authorization",
        "Every operation names its scope, and each scope is tested on each operation.",
        (
            "integration/http/auth/test_every_route::test_each_scope_opens_what_is_documented_and_nothing_else",
            "integration/http/auth/test_every_route::test_the_document_leaves_out_no_route_of_the_api",
            "integration/http/auth/test_keys::test_every_operation_says_which_scope_it_needs",
            "integration/segments/settings/test_settings::test_only_an_admin_saves",
        ),
    ),
    "API6": Risk(
        "Unrestricted access to sensitive business flows",
        "Exporting all customers needs a scope of its own. The audit records who exports, "
        "erases, replays, discards and changes rules. Rules are previewed first, and two "
        "people who save at once do not overwrite each other.",
        (
            "system/security/test_api::test_everything_that_cannot_be_undone_is_audited_with_its_actor",
            "integration/segments/settings/test_settings::test_who_saves_what_others_changed_is_told",
            "integration/operations/dead_letters/test_over_http::test_discarding_keeps_who_and_why_and_nothing_of_it",
        ),
    ),
    "API7": Risk(
        "Server side request forgery",
        "There is none: no request names an address to fetch, and the only clients in the code "
        "are those of Postgres and Redis.",
        ("unit/security/test_api::test_the_service_has_no_client_that_a_caller_could_misuse",),
    ),
    "API8": Risk(
        "Security misconfiguration",
        "Safe headers on every answer, no CORS, no server name, no stack trace, no scripts from "
        "elsewhere; while there are no credentials, only this machine is served.",
        (
            "integration/http/auth/test_limits::test_every_answer_has_safe_headers",
            "system/security/test_api::test_a_real_process_reveals_nothing_about_itself",
            "integration/http/test_docs::test_everything_is_there_and_nothing_comes_from_elsewhere",
            "integration/http/auth/test_logs::test_an_error_is_told_by_its_class_and_its_causes",
            "integration/http/auth/test_local::test_pages_of_other_origins_may_not_write",
            "integration/http/auth/test_local::test_a_name_that_was_made_to_lead_here_does_not",
            "system/security/test_secrets::test_no_secret_is_in_the_checkout",
        ),
    ),
    "API9": Risk(
        "Improper inventory management",
        "One version. The OpenAPI document is generated, compared, and has every route except "
        "those on a short list.",
        (
            "system/security/test_api::test_every_route_is_documented_or_on_a_short_list",
            "integration/contracts/test_contracts::test_what_is_checked_in_is_what_the_code_says",
            "unit/security/test_supply::test_every_package_that_is_shipped_has_an_allowed_licence",
        ),
    ),
    "API10": Risk(
        "Unsafe consumption of APIs",
        "Events and imported files are input from strangers: checked field by field, bounded in "
        "size, stored as parameters, defused for spreadsheets.",
        (
            "integration/bad_input/test_stream::test_each_is_refused_with_its_reason_and_comes_back_to_the_byte",
            "integration/bad_input/test_stream::test_no_entry_stops_a_worker",
            "unit/core/test_order_event::test_no_mutation_of_a_document_makes_it_raise",
            "integration/ingest/test_order_event::test_what_is_accepted_is_stored_and_read_back",
            "integration/transfer/test_import::test_broken_lines_are_refused_one_by_one",
            "integration/transfer/test_export::test_formulas_are_defused",
        ),
    ),
}


@cache
def names_in(file: Path) -> set[str]:
    """Return the names of a file's functions."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {it.name for it in ast.parse(file.read_text()).body if isinstance(it, kinds)}


def test_all_ten_risks_are_listed() -> None:
    assert list(RISKS) == [f"API{number}" for number in range(1, 11)]


@pytest.mark.parametrize("risk", RISKS)
def test_the_tests_against_a_risk_exist(risk: str) -> None:
    assert RISKS[risk].tests
    for test in RISKS[risk].tests:
        path, _, name = test.partition("::")
        assert name in names_in(TESTS / f"{path}.py"), test
