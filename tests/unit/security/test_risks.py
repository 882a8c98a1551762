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
            "integration/db/operations/dead_letters/test_over_http::test_fields_of_a_dead_letter_are_shown_only_with_write_or_admin",
            "integration/db/customers/test_editing::test_an_unknown_customer_is_not_found",
        ),
    ),
    "API2": Risk(
        "Broken authentication",
        "Keys of 256 random bits, kept as hashes; passwords in Argon2id; expiry and revocation in "
        "seconds; failed attempts are limited, without locking users out of browsers that they "
        "have used before; passwords that are easy to guess are refused; the answer never says "
        "what was wrong; the first credential ends local mode for good.",
        (
            "integration/http/auth/test_every_route::test_without_a_valid_key_every_protected_operation_is_refused",
            "integration/http/auth/test_keys::test_every_wrong_key_gets_the_same_answer",
            "integration/http/auth/test_keys::test_a_revoked_key_is_refused_once_the_cache_forgets_it",
            "integration/http/auth/test_keys::test_only_a_hash_is_stored_and_the_audit_names_the_key",
            "integration/http/auth/test_limits::test_wrong_keys_are_limited_more_strictly_than_requests",
            "integration/http/auth/test_users::test_refusing_an_unknown_user_takes_as_long_as_a_wrong_password",
            "integration/http/auth/test_users::test_a_password_that_attackers_try_first_is_refused",
            "integration/http/auth/test_local::test_local_mode_ends_for_good_with_the_first_credential",
            "integration/http/auth/test_local::test_the_service_refuses_to_start_on_other_addresses_without_a_credential",
            "unit/http/test_sign_in_limits::test_strangers_at_many_addresses_are_limited_by_account",
            "unit/http/test_sign_in_limits::test_a_device_is_limited_by_itself_for_each_of_its_users",
            "system/browser/test_sign_in_limits::test_a_known_device_does_not_wait_for_300_strangers",
            "system/browser/test_sign_in_limits::test_wrong_keys_and_other_requests_do_not_keep_anybody_from_signing_in",
        ),
    ),
    "API3": Risk(
        "Broken object property level authorization",
        "Bodies list the fields that may be written and refuse all others; the service itself "
        "records who and when. Logs, audit, addresses and the out-stream carry no personal data.",
        (
            "system/browser/test_search::test_pages_and_sorting_of_a_search_keep_the_term_out_of_addresses",
            "integration/http/test_search::test_a_cursor_shows_no_name_and_is_good_in_every_process",
            "system/security/test_api::test_computed_fields_cannot_be_sent",
            "system/security/test_api::test_nobody_can_name_another_author",
            "unit/security/test_api::test_every_body_refuses_unknown_fields",
            "integration/http/activity/test_activity::test_activity_shows_no_e_mail_even_when_one_was_edited",
            "integration/http/auth/test_logs::test_each_request_has_a_log_line_without_personal_data",
        ),
    ),
    "API4": Risk(
        "Unrestricted resource consumption",
        "Requests, statistics, previews, exports and live streams of a caller have limits; so have "
        "bodies, heads, pages and the parts of each; and everything that can be slow has a "
        "deadline. The proxy limits connections.",
        (
            "integration/http/auth/test_limits::test_a_caller_over_the_limit_is_refused_with_the_seconds_to_wait",
            "integration/http/auth/test_limits::test_a_body_that_is_too_large_is_refused_announced_or_not",
            "integration/http/auth/test_limits::test_a_request_is_given_up_unless_its_answer_begins_in_time",
            "system/bad_input/test_raw_http::test_a_request_that_never_ends_is_given_up_and_delays_no_other",
            "unit/security/test_api::test_every_parameter_is_bounded",
            "system/security/test_api::test_an_answer_does_not_grow_with_the_mistakes_of_a_request",
            "integration/http/test_budgets::test_a_caller_whose_budget_is_spent_is_refused_and_no_other",
            "integration/transfer/test_streaming::test_of_fifty_exports_at_once_all_but_two_are_refused",
            "integration/transfer/test_streaming::test_a_client_that_reads_too_slowly_is_cut_off",
            "system/bad_input/test_cost::test_no_request_costs_much_more_than_another",
            "integration/http/activity/test_activity::test_the_number_of_live_streams_is_limited",
        ),
    ),
    "API5": Risk(
        "Broken function level authorization",
        "Every operation names its scope, and each scope is tested on each operation.",
        (
            "integration/http/auth/test_every_route::test_each_scope_opens_what_is_documented_and_nothing_else",
            "integration/http/auth/test_every_route::test_the_document_contains_every_route_of_the_api",
            "unit/security/test_api::test_every_operation_says_which_scope_it_needs",
            "integration/db/segments/settings/test_settings::test_only_an_admin_may_save",
        ),
    ),
    "API6": Risk(
        "Unrestricted access to sensitive business flows",
        "Exporting all customers needs a scope of its own. The audit records who exports, "
        "erases, replays, discards and changes rules. Rules are previewed first, and two "
        "people who save at once do not overwrite each other.",
        (
            "system/security/test_api::test_everything_that_cannot_be_undone_is_audited_with_its_actor",
            "integration/db/segments/settings/test_settings::test_saving_is_refused_if_somebody_else_has_changed_the_settings",
            "integration/db/operations/dead_letters/test_over_http::test_discarding_keeps_the_actor_and_the_reason_but_no_content",
        ),
    ),
    "API7": Risk(
        "Server side request forgery",
        "Only admins name addresses, those of webhooks. They must be public, unless the command "
        "line allows a private network. The address of each connection is checked, redirects are "
        "not followed, and nothing of an answer is shown. There is no other client.",
        (
            "unit/security/test_api::test_the_service_has_no_client_that_a_caller_could_misuse",
            "unit/core/test_addresses::test_an_address_is_public_private_or_neither",
            "integration/http/test_webhooks::test_a_url_is_refused_with_a_reason",
            "integration/worker/test_deliveries::test_an_address_is_checked_at_each_connection",
            "integration/worker/test_deliveries::test_a_redirect_is_a_failure",
        ),
    ),
    "API8": Risk(
        "Security misconfiguration",
        "Safe headers on every answer, no CORS, no server name, no stack trace, no scripts from "
        "elsewhere; while there are no credentials, only this machine is served.",
        (
            "integration/http/auth/test_limits::test_every_answer_has_safe_headers",
            "system/security/test_api::test_a_real_process_reveals_nothing_about_itself",
            "integration/http/test_docs::test_the_page_lists_every_operation_and_loads_nothing_from_elsewhere",
            "integration/http/auth/test_logs::test_an_error_is_logged_by_its_class_and_causes_only",
            "integration/http/auth/test_local::test_pages_of_other_origins_may_not_change_anything",
            "integration/http/auth/test_local::test_a_foreign_host_name_that_resolves_here_is_refused",
            "system/security/test_secrets::test_no_secret_is_in_the_checkout",
        ),
    ),
    "API9": Risk(
        "Improper inventory management",
        "One version. The OpenAPI document is generated, compared, and has every route except "
        "those on a short list.",
        (
            "system/security/test_api::test_every_route_is_documented_or_on_a_short_list",
            "unit/http/test_contracts::test_the_checked_in_documents_equal_the_generated_ones",
            "unit/security/test_supply::test_every_package_that_is_shipped_has_an_allowed_licence",
        ),
    ),
    "API10": Risk(
        "Unsafe consumption of APIs",
        "Events and imported files are input from strangers: checked field by field, bounded in "
        "size, stored as parameters, defused for spreadsheets.",
        (
            "system/bad_input/test_stream::test_each_bad_entry_is_refused_with_its_reason_and_kept_byte_for_byte",
            "system/bad_input/test_stream::test_no_entry_stops_a_worker",
            "unit/core/test_order_event::test_no_mutation_of_a_document_makes_judge_raise",
            "integration/db/ingest/test_order_event::test_an_accepted_event_is_stored_and_read_back",
            "integration/transfer/test_import::test_broken_lines_are_refused_one_by_one",
            "integration/transfer/test_export::test_formulas_are_escaped",
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
