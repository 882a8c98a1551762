"""``/docs`` shows the OpenAPI document, and runs nothing that is written in it."""

from service.http import docs
from tests.unit.http.page import Page


def test_the_document_is_shown_escaped() -> None:
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
