"""``/docs`` lists the whole API, and loads nothing from other hosts."""

import base64
import hashlib
import re

import httpx

from tests.unit.http.page import Page


async def test_the_page_lists_every_operation_and_loads_nothing_from_elsewhere(
    web: httpx.AsyncClient,
) -> None:
    answer = await web.get("/docs")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page, html = Page(answer.text), answer.text
    assert not page.tags & {"script", "link", "img", "iframe", "form", "object"}
    assert not page.outside
    assert "@import" not in html
    assert "url(" not in html
    inside = {link.removeprefix("#") for link in page.links if link.startswith("#")}
    assert inside <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert {link for link in page.links if not link.startswith("#")} == {"openapi.json"}
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "frame-ancestors 'none'" in policy
    [style] = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy

    document = (await web.get("/openapi.json")).json()
    for path, item in document["paths"].items():
        assert f"<code>{path}</code>" in html
        for operation in item.values():
            for parameter in operation.get("parameters", []):
                assert f"<code>{parameter['name']}</code>" in html
    for name, schema in document["components"]["schemas"].items():
        assert f'id="schema-{name}"' in html
        for field in schema.get("properties", {}):
            assert f"<code>{field}</code>" in html
    assert "Needs the scope <code>read</code>" in html
