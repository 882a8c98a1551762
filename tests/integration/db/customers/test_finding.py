"""People are found as people write: letters, words, phones, orders, and whatever is copied."""

from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.core.tags import tag_key
from service.db.customers import customer_list
from service.db.customers.customer_list import Page
from service.db.customers.filters import Filter
from service.db.customers.narrowing import narrowed
from service.db.search_text import rewrite_waiting_step, write_search_text
from tests.conftest import Service
from tests.events import entry
from tests.integration.db.customers.conftest import Api

GREEK = "Γιώργος Παπαδόπουλος"
TURKISH = "İbrahim Çelik"
COMPOSED, DECOMPOSED = "Zoë Ångström", "Zoe\u0308 A\u030angstro\u0308m"
QUOTED = 'Robert "Bob" O\u2019Neill-Smythe'
PEOPLE: dict[str, dict[str, Any]] = {
    "Élodie Dupont": {"phone": "+32 471 12 34 56", "zip": "1050"},
    "Maria Sánchez": {"phone": "0471 98 76 54", "zip": "28013"},
    GREEK: {"phone": "+30 (0)21 0123 4567"},
    TURKISH: {},
    DECOMPOSED: {"phone": "(807) 897-2977", "zip": "SW1A 1AA"},
    "Jane Smith": {"email": "jane.smith@acme.example", "external": "7781"},
    "Jane Doe": {"phone": "555-0123 ext. 7"},
    QUOTED: {},
    "Straße Bjørn Łukasz": {},
    "Ægir Þór Đặng": {},
    r"100% Cotton_Shop \ Co": {},
    "Ann\u00a0 Lee\tJr": {},
}


async def _shop(service: Service) -> None:
    await service.ingest(
        *(
            entry(
                f"#{1411 + n}" if n % 2 else f"ORD-{1411 + n}",
                customer={"id": known.get("external")},
                name=name,
                email=known.get("email", f"person{n}@example.org"),
                phone=known.get("phone"),
                shippingAddress={"zip": known["zip"]} if "zip" in known else None,
            )
            for n, (name, known) in enumerate(PEOPLE.items())
        )
    )


async def _found(connection: AsyncConnection, search: str) -> set[str | None]:
    wanted = Filter(search=search)
    page = await customer_list.find(connection, wanted, Page())
    assert page.total == len(page.items)
    # Pages with several questions look for the customers first.
    looked_for = await narrowed(connection, wanted)
    assert await customer_list.find(connection, looked_for, Page()) == page
    return {row.name for row in page.items}


ELODIE, SANCHEZ, ZOE, SMITH, DOE, _, LETTERS, NORSE, ODD, LEE = (
    name for name in PEOPLE if name not in {GREEK, TURKISH}
)
KNOWN_ANSWERS: dict[str, set[str]] = {
    "elodie": {ELODIE},
    "ÉLODIE": {ELODIE},
    "Sanchez": {SANCHEZ},
    "Sánchez": {SANCHEZ},
    "ibrahim": {TURKISH},
    "İbrahim": {TURKISH},
    "IBRAHIM ÇELİK": {TURKISH},
    "ıbrahım celık": {TURKISH},
    "ΓΙΩΡΓΟΣ": {GREEK},
    "γιωργος παπαδοπουλοσ": {GREEK},
    COMPOSED: {ZOE},
    DECOMPOSED: {ZOE},
    "zoe angstrom": {ZOE},
    "STRASSE": {LETTERS},
    "straße": {LETTERS},
    "bjorn lukasz": {LETTERS},
    "aegir thor dang": {NORSE},
    "Ægir þór đặng": {NORSE},
    "smith jane": {SMITH},
    "smith, jane": {SMITH},
    "jane acme": {SMITH},
    "jane": {SMITH, DOE},
    '"jane smith"': {SMITH},
    '"smith jane"': set(),
    "\u201cJane Smith\u201d": {SMITH},
    "7781": {SMITH},
    "o'neill": {QUOTED},
    "bob": {QUOTED},
    QUOTED: {QUOTED},
    '"Bob': {QUOTED},
    '"': {QUOTED},
    "neill\u2013smythe": {QUOTED},
    "ann lee": {LEE},
    '"ann lee jr"': {LEE},
    # Phones, in any writing.
    "0471123456": {ELODIE},
    "471123456": {ELODIE},
    "+32 471 12 34 56": {ELODIE},
    "0032471123456": {ELODIE},
    "+32 (0)471/12.34.56": {ELODIE},
    "0471 12 34 56": {ELODIE},
    "elodie 123456": {ELODIE},
    "+32471987654": {SANCHEZ},
    "471987654": {SANCHEZ},
    "0210 1234567": {GREEK},
    "8078972977": {ZOE},
    "+1 807 897 2977": {ZOE},
    "807-897": {ZOE},
    "897-2977": {ZOE},
    "555-0123 ext. 7": {DOE},
    "0471": {SANCHEZ},
    # Postal codes, order ids, our own ids.
    "1050": {ELODIE},
    "28013 maria": {SANCHEZ},
    "sw1a1aa": {ZOE},
    "SW1A 1AA": {ZOE},
    "1412": {SANCHEZ},
    "#1412": {SANCHEZ},
    "maria #1412": {SANCHEZ},
    "elodie #1412": set(),
    "ORD-1411": {ELODIE},
    "ord-1411": {ELODIE},
    # Nothing has a meaning of its own.
    "100%": {ODD},
    "n_s": {ODD},
    "\\": {ODD},
    "%": {ODD},
    "_": {ODD},
    "x" * 500: set(),
    "%_\\'\";--" * 20: set(),
    "zz": set(),
}


async def test_known_answers(service: Service) -> None:
    await _shop(service)
    async with service.engine.connect() as connection:
        for search, expected in KNOWN_ANSWERS.items():
            assert await _found(connection, search) == expected, search
        number = (await customer_list.find(connection, Filter(search="elodie"), Page())).items[0].id
        for search in (f"CUST-{number}", f"cust-{number} dupont", str(number)):
            assert await _found(connection, search) == {ELODIE}, search
        for nothing in ("", "   ", '""', ' "  " ', "\u201c\u201d"):
            assert await _found(connection, nothing) == set(PEOPLE), nothing


async def test_tags_are_found_as_words_are(service: Service) -> None:
    await _shop(service)
    for name, whom in (("Grossiste Été", "Jane%"), ("2026-fair", "Jane Doe%")):
        await service.execute(
            "WITH t AS (INSERT INTO tags (name, folded) VALUES (:name, :folded) RETURNING id)"
            " INSERT INTO customer_tags (customer_id, tag_id)"
            " SELECT c.id, t.id FROM customers c, t WHERE c.name LIKE :whom",
            name=name,
            folded=tag_key(name),
            whom=whom,
        )
    async with service.engine.connect() as connection:
        for search, expected in (
            ("grossiste", {SMITH, DOE}),
            ("ete smith", {SMITH}),
            ("jane ETE 2026-fair", {DOE}),
            ("elodie grossiste", set()),
            ("1412 ete", set()),
        ):
            assert await _found(connection, search) == expected, search


async def test_a_name_may_be_as_long_as_the_contract_allows(service: Service) -> None:
    rng = Random(1)
    name = "".join(chr(rng.randrange(0xAC00, 0xD7A3)) for _ in range(1000))
    await service.ingest(entry("ORD-1", name=name, email="a@example.org"))
    async with service.engine.connect() as connection:
        for search in (name[:150], name[150:300], name[-150:]):
            assert await _found(connection, search) == {name}


async def test_a_name_of_letters_alone_is_found_by_each_of_them(service: Service) -> None:
    await service.ingest(entry("ORD-1", name="李小龙", email="a@example.org"))
    async with service.engine.connect() as connection:
        for search in ("李", "小龙", "龙"):
            assert len(await _found(connection, search)) == 1, search


_ALPHABET = st.one_of(
    st.sampled_from(" \t\u00a0\"'`´,;%_\\-\u2019\u2013\u201c+()#.\u0301\u0308\u200b\u00ad\u3000"),
    st.sampled_from("aeiosIißſıİŉæœøłđþÉñüâ12345٠Σςσάγ"),
    st.characters(min_codepoint=0x20, max_codepoint=0x24F),
    st.characters(min_codepoint=0x300, max_codepoint=0x6ED),
    st.characters(min_codepoint=0x1E00, max_codepoint=0x1FFF, exclude_categories=["Cn"]),
    st.sampled_from("が한글漢字ﬁ①½"),
)


@settings(max_examples=50, deadline=None, suppress_health_check=[*HealthCheck])
@given(name=st.text(_ALPHABET, min_size=1, max_size=14), data=st.data())
async def test_whatever_is_copied_from_a_name_finds_its_customer(
    empty_service: Service, name: str, data: st.DataObject
) -> None:
    async with empty_service.engine.connect() as connection:
        created = await connection.execute(
            text("INSERT INTO customers (date_created, name) VALUES (now(), :name) RETURNING id"),
            {"name": name},
        )
        await write_search_text(connection, [created.scalar_one()])
        for _ in range(4):
            start = data.draw(st.integers(0, len(name) - 1))
            copied = name[start : data.draw(st.integers(start + 1, len(name)))]
            hits = await customer_list.count_hits(connection, Filter(search=copied))
            assert hits in {1, None}, copied
        await connection.rollback()


async def test_whatever_is_found_follows_what_changes(api: Api, service: Service) -> None:
    await service.ingest(
        entry("ORD-1", email="a@example.org", name="Ann", shippingAddress={"zip": "78701"})
    )
    await service.ingest(
        entry("ORD-2", email="a@example.org", customer={"id": "shop-99"}, name="Ann"),
    )
    for search in ("78701", "shop-99", "ORD-2", "ann ord-2"):
        assert (await api.get(search=search))["total"] == 1, search
    await service.ingest(
        entry("ORD-3", email="a@example.org", shippingAddress={"zip": "10115", "city": "Berlin"})
    )
    assert (await api.get(search="78701"))["total"] == 0
    assert (await api.get(search="10115"))["total"] == 1
    assert await service.findings() == []


async def test_what_processes_of_the_release_before_write_is_written_anew(
    api: Api, service: Service
) -> None:
    await service.ingest(
        *(entry(f"ORD-{n}", email=f"p{n}@example.org", name=f"Zoë {n}") for n in range(4))
    )
    async with service.owner.begin() as connection:
        await connection.execute(text("SET LOCAL crm.search = ''"))
        for written in (
            """UPDATE customers SET address = '{"zip": "10115"}' WHERE name = 'Zoë 1'""",
            """INSERT INTO identifiers (identifier, customer_id)
               SELECT 'external:/shop#abc-77', id FROM customers WHERE name = 'Zoë 2'""",
            """UPDATE customer_search s
               SET searched = lower(concat_ws(E'\\n', name, email, phone, notes))
               FROM customers c WHERE c.id = s.customer_id AND name = 'Zoë 3'""",
            "INSERT INTO customer_search VALUES (999, 'left over')",
        ):
            await connection.execute(text(written))
    step = rewrite_waiting_step()
    assert [await service.in_transaction(step) for _ in range(3)] == [4, 0, None]
    for search, name in (("10115", "Zoë 1"), ("ABC-77", "Zoë 2"), ("zoe 3", "Zoë 3")):
        assert [it["name"] for it in (await api.get(search=search))["items"]] == [name]
    assert await service.findings() == []


async def test_similar_names_are_offered_only_if_nobody_matches(api: Api, service: Service) -> None:
    names = ("John Smith", "Jon Smithson", "Élodie Dupont", "Karl Groß")
    await service.ingest(
        *(entry(f"ORD-{n}", email=f"p{n}@example.org", name=name) for n, name in enumerate(names))
    )
    for search, name in (
        ("jhon smiht", names[0]),
        ("Elodi Dupond", names[2]),
        ("gros karle", names[3]),
    ):
        answer = await api.get(search=search)
        assert (answer["items"], answer["total"]) == ([], 0), search
        assert name in [it["name"] for it in answer["similar"][:2]], search
    assert "similar" not in await api.get(search="john smith")
    assert "similar" not in await api.get(search="smith", segment="inactive")
    for search in ("xyzzy", "55512345678", "nobody@x.org", "CUST-77", "%"):
        assert (await api.get(search=search))["similar"] == [], search
    page = await api.http.post("/", data={"q": "jhon <smiht>"})
    assert "Nobody matches “jhon &lt;smiht&gt;”" in page.text
    assert "Similar names:" in page.text
    assert "John Smith" in page.text
    assert "Similar names" not in (await api.http.post("/", data={"q": "john"})).text


@pytest.mark.parametrize("erased", ["Ann Lee", "ann@example.org", "5550177", "78701", "ORD-1"])
async def test_nothing_finds_somebody_who_was_erased(
    api: Api, service: Service, erased: str
) -> None:
    await service.ingest(
        entry(
            "ORD-1",
            email="ann@example.org",
            name="Ann Lee",
            phone="555-0177",
            shippingAddress={"zip": "78701"},
        )
    )
    (item,) = (await api.get(search=erased))["items"]
    assert (await api.http.delete(f"/api/v1/customers/{item['id']}")).is_success
    assert (await api.get(search=erased))["total"] == 0
