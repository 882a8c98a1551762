"""deploy/distributed-postgres.md covers the whole schema and all statements.

A failure means that the plan does not cover a table or a statement yet, not that it is wrong. Think
it through in the plan, and add it there.
"""

import re
from collections.abc import Iterator

from sqlalchemy import BigInteger, ForeignKeyConstraint, Identity, Table, UniqueConstraint

from service.db.schema import metadata
from tests.paths import DEPLOY, ROOT

PLAN = (DEPLOY / "distributed-postgres.md").read_text()
_BY_CUSTOMER, _BY_IDENTIFIER = "by customer", "by identifier"
_PLACES = {_BY_CUSTOMER, _BY_IDENTIFIER, "reference", "coordinator"}
_CONSTRUCTS = {
    "`ctid`": r"\bctid\b",
    "`FOR UPDATE`, `FOR NO KEY UPDATE`": r"FOR (NO KEY )?UPDATE",
    "advisory locks": r"pg_(try_)?advisory_",
    "`pg_notify`": r"pg_notify|add_listener",
    "`RETURNING old`": r"(RETURNING|,)\s+(new\.\w+( AS \w+)?,\s+)?old\.",
    "`REPEATABLE READ`": r"REPEATABLE READ",
    "`TABLESAMPLE`": r"TABLESAMPLE",
    "`COPY`": r"copy_from_query|copy_records",
    "`nextval`, `setval`": r"\b(nextval|setval)\(",
}


def rows(heading: str) -> Iterator[list[str]]:
    """Yield the cells of each row of the table under a heading of the plan."""
    section = PLAN.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    for line in lines[2:]:
        yield [cell.strip() for cell in line.strip("|").split("|")]


def named(cell: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", cell))


PLACES = {table: place for cell, place, *_ in rows("Tables") for table in named(cell)}
KEYS = {table: key for cell, _, key, *_ in rows("Tables") for table in named(cell)}


def big() -> Iterator[tuple[Table, str]]:
    """Yield the tables that will be distributed, each with its distribution column."""
    for name, place in PLACES.items():
        if place == _BY_CUSTOMER:
            (key,) = named(KEYS[name])
            yield metadata.tables[name], key


def test_the_plan_places_each_table() -> None:
    assert PLACES.keys() == metadata.tables.keys()
    assert set(PLACES.values()) == _PLACES


def test_tables_that_grow_with_customers_have_the_distribution_key() -> None:
    assert sum(1 for _ in big()) >= 6
    for table, key in big():
        assert isinstance(table.c[key].type, BigInteger), (
            table.name
        )  # one type for all, so that they are colocated
    for name, place in PLACES.items():
        if place == _BY_IDENTIFIER:
            (key,) = named(KEYS[name])
            assert list(metadata.tables[name].primary_key.columns.keys()) == [key]
        elif place != _BY_CUSTOMER:
            assert "customer_id" not in metadata.tables[name].columns, f"{name} has the key"


def test_the_plan_covers_every_table_whose_key_may_be_null() -> None:
    absent = {f"{table.name}.{key}" for table, key in big() if table.c[key].nullable}
    assert absent == {
        place for cell, *_ in rows("Rows without a customer") for place in named(cell)
    }


def test_the_plan_covers_every_unique_constraint_without_the_key() -> None:
    """Citus enforces uniqueness only within a shard."""
    without = set()
    for table, key in big():
        unique = [set(table.primary_key.columns.keys())]
        unique += [
            set(constraint.columns.keys())
            for constraint in table.constraints
            if isinstance(constraint, UniqueConstraint)
        ]
        unique += [set(index.columns.keys()) for index in table.indexes if index.unique]
        without |= {f"{table.name} ({', '.join(sorted(it))})" for it in unique if key not in it}
    assert without == {it for cell, *_ in rows("Uniqueness without the key") for it in named(cell)}


def test_the_plan_covers_every_foreign_key() -> None:
    known = {
        f"{table.name} → {constraint.referred_table.name}"
        for table in metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, ForeignKeyConstraint)
    }
    assert known == {it for cell, *_ in rows("Foreign keys") for it in named(cell)}


def test_identity_columns_can_be_distributed() -> None:
    for table, _ in big():
        for column in table.columns:
            if isinstance(column.server_default, Identity):
                assert isinstance(column.type, BigInteger), (
                    column
                )  # smaller types would overlap between shards


def test_the_plan_covers_every_statement_that_a_cluster_treats_differently() -> None:
    sources = {
        path.relative_to(ROOT / "service").as_posix(): path.read_text()
        for path in sorted((ROOT / "service").rglob("*.py"))
    } | {f"consumers/{path.name}": path.read_text() for path in (ROOT / "consumers").glob("*.py")}
    found = {
        construct: {name for name, text in sources.items() if re.search(pattern, text)}
        for construct, pattern in _CONSTRUCTS.items()
    }
    assert found == {construct: named(where) for construct, where, *_ in rows("Statements")}
