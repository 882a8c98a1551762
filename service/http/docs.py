"""``/docs``: the OpenAPI document as plain HTML that loads nothing from other servers."""

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

ABOUT = """Customers, their orders and their segments.

Send an API key (`crm keys create`) as `Authorization: Bearer crm_…` or as `X-API-Key`. A key has
one or more of the scopes `read`, `write`, `export`, `erase` and `admin`; each operation says which
one it needs. While there is no key and no user, anyone on the service's own machine may do
everything.

Errors are RFC 9457 problem documents. Money is a JSON number with two decimals. Times are in UTC
and end in `Z`. Every answer has an `X-Request-ID`: yours if you sent one. The log has it, too.
"""

_CSS = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
code, pre { font: 0.875em/1.45 ui-monospace, monospace; background: var(--soft); padding: 0 .25em; }
pre { padding: .6em .8em; overflow-x: auto; border-radius: 4px; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; padding: 0 .9rem; }
summary { cursor: pointer; padding: .55rem 0; }
summary b { display: inline-block; min-width: 4.5em; }
summary code { background: none; font-weight: 600; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1rem; display: block;
        overflow-x: auto; }
th, td { text-align: left; vertical-align: top; padding: .35rem .7rem .35rem 0;
         border-top: 1px solid var(--line); }
td p { margin: 0; }
h2 { margin-top: 2.5rem; text-transform: capitalize; } h3 { margin-bottom: .25rem; }
nav a { margin-right: 1rem; text-transform: capitalize; }
"""
_HASH = base64.b64encode(hashlib.sha256(_CSS.encode()).digest()).decode()
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'"
)
_LIMITS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "maxItems": "at most {} items",
    "pattern": "matches {}",
}

Node = Mapping[str, Any]

router = APIRouter(include_in_schema=False)


@router.get("/docs")
async def docs(request: Request) -> Response:
    """Show the operations and schemas of the API."""
    page = render(request.app.openapi())
    return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY})


def render(document: Node) -> str:
    """Return an OpenAPI 3.1 document as HTML."""
    tags: dict[str, list[str]] = {}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            tag = (operation.get("tags") or ["other"])[0]
            tags.setdefault(tag, []).append(_operation(method, path, operation))
    schemas = document.get("components", {}).get("schemas", {})
    title = escape(document["info"]["title"])
    links = (f'<a href="#{_slug(name)}">{escape(name)}</a>' for name in (*tags, "schemas"))
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title><style>{_CSS}</style></head><body>",
            f"<h1>{title} {escape(document['info']['version'])}</h1>",
            _text(document["info"].get("description", "")),
            '<p>For programs: <a href="openapi.json"><code>openapi.json</code></a></p>',
            f"<nav>{''.join(links)}</nav>",
            *(
                f'<h2 id="{_slug(tag)}">{escape(tag)}</h2>{"".join(operations)}'
                for tag, operations in tags.items()
            ),
            '<h2 id="schemas">Schemas</h2>',
            *(_component(name, schema) for name, schema in sorted(schemas.items())),
            "</body></html>",
        )
    )


def _operation(method: str, path: str, operation: Node) -> str:
    parts = [_text(operation.get("description", "")), _needs(operation.get("security", []))]
    if parameters := operation.get("parameters"):
        parameter_rows = (
            (
                f"<code>{escape(each['name'])}</code>",
                escape(each["in"]) + (", required" if each.get("required") else ""),
                _type(each.get("schema", {})),
                _explained({**each.get("schema", {}), **each}),
            )
            for each in parameters
        )
        parts += ["<h3>Parameters</h3>", _table(("name", "in", "type", ""), parameter_rows)]
    if body := operation.get("requestBody"):
        parts += ["<h3>Body</h3>", _text(body.get("description", "")), *_contents(body)]
    rows = (
        (
            f"<code>{escape(status)}</code>",
            "".join((_text(response.get("description", "")), *_contents(response))),
        )
        for status, response in sorted(operation["responses"].items())
    )
    parts += ["<h3>Answers</h3>", _table(("status", ""), rows)]
    name = f"{method}-{_slug(path)}"
    summary = escape(operation.get("summary", ""))
    return (
        f'<details id="{name}"><summary><b>{method.upper()}</b> <code>{escape(path)}</code> '
        f"{summary}</summary>{''.join(parts)}</details>"
    )


def _needs(security: Iterable[Node]) -> str:
    scopes = sorted({scope for option in security for names in option.values() for scope in names})
    named = ", ".join(f"<code>{escape(scope)}</code>" for scope in scopes)
    return f"<p>Needs the scope {named}.</p>" if named else "<p>Needs no credential.</p>"


def _contents(holder: Node) -> Iterator[str]:
    for media, content in holder.get("content", {}).items():
        schema = content.get("schema", {})
        yield f"<p><code>{escape(media)}</code> {_type(schema)}</p>"
        if schema.get("properties"):
            yield _properties(schema)
        examples = [example.get("value") for example in content.get("examples", {}).values()]
        yield from map(_example, [content["example"]] if "example" in content else examples)


def _component(name: str, schema: Node) -> str:
    inside = _text(schema.get("description", ""))
    inside += _properties(schema) if schema.get("properties") else f"<p>{_type(schema)}</p>"
    inside += "".join(map(_example, schema.get("examples", [])))
    return (
        f'<details id="schema-{_slug(name)}" open><summary><code>{escape(name)}</code></summary>'
        f"{inside}</details>"
    )


def _properties(schema: Node) -> str:
    required = schema.get("required", ())
    rows = (
        (
            f"<code>{escape(name)}</code>",
            _type(property_) + (", required" if name in required else ""),
            _explained(property_),
        )
        for name, property_ in schema["properties"].items()
    )
    return _table(("property", "type", ""), rows)


def _type(schema: Node) -> str:
    """Return a type in one line, as a link to its schema if it has a name."""
    if reference := schema.get("$ref"):
        name = str(reference).rpartition("/")[2]
        return f'<a href="#schema-{_slug(name)}">{escape(name)}</a>'
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(map(_type, schema[key])))
    if values := schema.get("enum", [schema["const"]] if "const" in schema else []):
        return " ".join(f"<code>{_plain(value)}</code>" for value in values)
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    named = " or ".join(kind) if isinstance(kind, list) else kind
    form = f" ({schema['format']})" if "format" in schema else ""
    return escape(f"{named}{form}{_limits(schema)}")


def _limits(schema: Node) -> str:
    return "".join(f", {text.format(schema[k])}" for k, text in _LIMITS.items() if k in schema)


def _explained(node: Node) -> str:
    """Return the description, default and examples of a parameter or property."""
    parts = [_text(node.get("description", ""))]
    if node.get("default") is not None:
        parts.append(f"<p>Default: <code>{_plain(node['default'])}</code></p>")
    examples = node.get("examples") or ([node["example"]] if "example" in node else [])
    listed = examples.values() if isinstance(examples, dict) else examples
    parts += [f"<p>Example: <code>{_plain(example)}</code></p>" for example in listed]
    return "".join(parts)


def _example(value: object) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2, ensure_ascii=False))}</pre>"


def _plain(value: object) -> str:
    return escape(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{name}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _text(text: str) -> str:
    """Return text as HTML paragraphs. Text between backticks becomes code."""
    marked = re.sub(r"(`+)(.+?)\1", r"<code>\2</code>", escape(text, quote=False))
    paragraphs = re.split(r"\n\s*\n", marked)
    return "".join(f"<p>{paragraph.strip()}</p>" for paragraph in paragraphs if paragraph.strip())


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")
