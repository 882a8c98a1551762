"""The composed statements as files that can be read: ``python -m tests.sql`` writes them anew.

A module that composes a statement has it beside it, as `<module>.<statement>.sql`. The file begins
with a comment, written by hand: what the statement does, and why it is one statement. The rest is
the very text that is executed, with other white space.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import TextClause

from service.core.segment_rules import Segment
from service.db.customers.customer_list import Page, SortPosition, page_statement, sorted_query
from service.db.customers.filters import Filter
from service.db.customers.sorting import Sort
from service.db.ingest import apply, owners, skip_known
from service.db.operations.rebuild import customers as rebuilt
from service.db.operations.verify import metrics, segments
from service.db.segments import assign, reclassify, recount, rule_settings, sweep
from service.db.statistics import span_figures
from service.transfer import customers_in, customers_planned
from tests.paths import ROOT

_NEWEST = sorted_query(Filter(), Page(), None)
_SEARCHED = sorted_query(
    Filter((Segment.VIP,), "jane"),
    Page(Sort.TOTAL_SPENT, after=SortPosition("99.50", 1001)),
    hits=7,
)
STATEMENTS: dict[str, TextClause] = {
    "db/ingest/owners.create.sql": owners._CREATE,
    "db/ingest/owners.claim.sql": owners._CLAIM,
    "db/ingest/apply.sql": apply._APPLY,
    "db/ingest/skip_known.sql": skip_known._KNOWN,
    "db/customers/customer_list.newest.sql": page_statement(_NEWEST),
    "db/customers/customer_list.searched.sql": page_statement(_SEARCHED),
    "db/segments/assign.reclassify.sql": assign._RECLASSIFY,
    "db/segments/assign.hold.sql": assign._HOLD,
    "db/segments/assign.forget.sql": assign._FORGET,
    "db/segments/sweep.due.sql": sweep._DUE,
    "db/segments/reclassify.chunk.sql": reclassify._EXAMINE,
    "db/segments/recount.page.sql": recount._FIND,
    "db/segments/recount.customers.sql": recount._RECOUNT,
    "db/segments/rule_settings.preview.sql": rule_settings._PREVIEW_OF_COUNTING,
    "db/statistics/span_figures.keep.sql": span_figures._KEEP,
    "transfer/customers_planned.plan.sql": customers_planned._PLAN,
    "transfer/customers_in.create.sql": customers_in._CREATE,
    "transfer/customers_in.change.sql": customers_in._CHANGE,
    "db/operations/rebuild/customers.differences.sql": rebuilt._DIFFERENCES,
    "db/operations/rebuild/customers.correct.sql": rebuilt._CORRECT,
    "db/operations/verify/segments.misplaced.sql": segments._MISPLACED,
    "db/operations/verify/metrics.rebuilt.sql": metrics._REBUILT_FIGURES,
}

_WIDTH = 100
_TOKEN = re.compile(
    r"""(?P<text>E?'(?:[^']|'')*') | (?P<comment>--[^\n]*) | (?P<open>\() | (?P<close>\))
      | (?P<comma>,) | (?P<newline>\n) | (?P<space>[^\S\n]+) | (?P<word>[^\s(),']+)""",
    re.VERBOSE,
)
_CLAUSE = re.compile(
    r"(WITH|SELECT|FROM|WHERE|GROUP|ORDER|HAVING|LIMIT|LEFT|CROSS|JOIN|UNION|EXCEPT|INTERSECT|"
    r"INSERT|UPDATE|DELETE|ON|RETURNING|TABLE|FOR|WHEN|ELSE|END)\b|"
    r"\w+ AS (MATERIALIZED )?\(|[()]|--"
)
_CLOSING = re.compile(r"^(?:\) ?|END\b ?)*")


_BREAKABLE = re.compile(r"(AND|OR|WHEN|ELSE|WHERE|THEN|CROSS|LEFT|(?<!ROWS )(?<!DISTINCT )FROM)\b")


def file_of(name: str) -> Path:
    """Return the file of a statement."""
    return ROOT / "service" / name


def head_of(name: str) -> list[str]:
    """Return the comment that begins a statement's file."""
    file = file_of(name)
    lines = file.read_text().splitlines() if file.exists() else []
    return lines[: _first(lines)]


def body_of(name: str) -> str:
    """Return a statement's file without the comment that begins it."""
    lines = file_of(name).read_text().splitlines()
    return "\n".join(lines[_first(lines) :])


def _first(lines: list[str]) -> int:
    return next((n for n, line in enumerate(lines) if not line.startswith("--")), len(lines))


def words(sql: str) -> list[str]:
    """Return the tokens of a statement, without white space."""
    return [m[0].strip() for m in _TOKEN.finditer(sql) if m[0].strip()]


def formatted(sql: str) -> str:
    """Return a statement with its lines indented by parentheses, and none longer than need be."""
    depth, lines = 0, list[str]()
    for line in filter(None, map(str.strip, sql.splitlines())):
        leading = _CLOSING.sub("", line, count=1)
        closing = -_depth(line[: len(line) - len(leading)])
        extra = 0 if _CLAUSE.match(line) else 1
        indent = "  " * (max(0, depth - closing) + extra)
        lines += _wrapped(indent, line)
        depth += _depth(line)
    return "\n".join(lines)


def _depth(line: str) -> int:
    """Return how many parentheses and CASEs a line opens, less those that it closes."""
    return sum(_opens(kind, token) for kind, token in _tokens(line))


def _opens(kind: str, token: str) -> int:
    if kind == "word":
        return (token == "CASE") - (token == "END")
    return (kind == "open") - (kind == "close")


def _tokens(line: str) -> Iterator[tuple[str, str]]:
    for match in _TOKEN.finditer(line):
        yield match.lastgroup or "", match[0]


def _wrapped(indent: str, line: str) -> Iterator[str]:
    while len(indent) + len(line) > _WIDTH and (cut := _cut(line, _WIDTH - len(indent))):
        yield indent + line[:cut].rstrip()
        if not indent.endswith("    "):
            indent += "    "
        line = line[cut:].lstrip()
    yield indent + line


def _cut(line: str, most: int) -> int:
    """Return where to break a line: as late as possible, inside as few parentheses as possible."""
    best, depth, at, least = 0, 0, 0, sys.maxsize
    for kind, token in _tokens(line):
        depth += _opens(kind, token)
        at += len(token)
        if at > most:
            break
        if kind == "comment":
            break
        breaks = kind == "comma" or _BREAKABLE.match(line, at)
        if kind in {"comma", "space"} and breaks and depth <= least and at < len(line):
            best, least = at, depth
    return best


def main() -> None:
    """Write the files, each with the comment that it had."""
    for name, statement in STATEMENTS.items():
        head = head_of(name) or ["-- (What it does, and why it is one statement.)"]
        file_of(name).write_text("\n".join([*head, formatted(statement.text)]) + "\n")


if __name__ == "__main__":
    main()
