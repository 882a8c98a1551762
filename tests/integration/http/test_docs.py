"""``/docs``: complete, and with nothing from elsewhere."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import httpx

from service.http import docs

_VOID = {"meta", "br", "hr", "link", "img"}


class Page(HTMLParser):
    """Checks that what is opened is closed, and gathers links and ids."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.outside: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in _VOID:
            self.open.append(tag)
        given = {name: value or "" for name, value in attrs}
        self.outside += [given[name] for name in ("src", "style", "onclick") if name in given]
        if "href" in given:
            self.links.append(given["href"])
        if "id" in given:
            self.ids.append(given["id"])

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


async def test_everything_is_there_and_nothing_comes_from_elsewhere(web: httpx.AsyncClient) -> None:
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


def test_what_the_document_says_is_escaped_and_shown() -> None:
    html = docs.render(
        {
            "info": {"title": "<b>T</b>", "version": "1", "description": "a `<i>`\n\nb"},
            "paths": {
                "/x/{id}": {
                    "post": {
                        "summary": "<script>",
                        "description": "Do ``it``.",
                        "security": [{"bearer": ["write"]}, {"header": ["write"]}],
                        "parameters": [
                            {
                                "name": "id",
                                "in": "path",
                                "required": True,
                                "schema": {"type": "integer", "minimum": 1, "default": 5},
                                "examples": {"one": {"value": 1}},
                            }
                        ],
                        "requestBody": {
                            "content": {
                                "application/json": {
                                    "schema": {
                                        "type": "array",
                                        "items": {"$ref": "#/components/schemas/Thing"},
                                    },
                                    "example": {"name": "<&>"},
                                }
                            }
                        },
                        "responses": {"200": {"description": "Done."}},
                    }
                }
            },
            "components": {
                "schemas": {
                    "Thing": {
                        "properties": {
                            "kind": {"enum": ["a", "b"], "examples": ["<u>"]},
                            "when": {
                                "anyOf": [
                                    {"type": "string", "format": "date-time"},
                                    {"type": "null"},
                                ]
                            },
                        },
                        "required": ["kind"],
                    }
                }
            },
        }
    )
    Page(html)
    for shown in (
        "&lt;b&gt;T&lt;/b&gt; 1",
        "<p>a <code>&lt;i&gt;</code></p><p>b</p>",
        "&lt;script&gt;",
        "Do <code>it</code>.",
        "<p>Needs the scope <code>write</code>.</p>",
        "path, required",
        "integer, ≥ 1",
        "Default: <code>5</code>",
        'list of <a href="#schema-Thing">Thing</a>',
        "&lt;&amp;&gt;",
        "<code>a</code> <code>b</code>, required",
        "string (date-time) or null",
        "Example: <code>&lt;u&gt;</code>",
        "Done.",
    ):
        assert shown in html, shown
    assert "<script>" not in html
