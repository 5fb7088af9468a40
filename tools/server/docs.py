"""The API's documentation as one plain page, made from its OpenAPI document.

The usual viewers load their code from other hosts; pages of this server load nothing from others.
"""

import json
from html import escape
from typing import Any

Json = dict[str, Any]
FRAME = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} API</title>
<link rel="stylesheet" href="/page.css">
<link rel="icon" href="data:,">
</head>
<body class="docs">
<main>
<h1>{title} API</h1>
<p>{about}</p>
<p>Machine-readable: <a href="/openapi.json">openapi.json</a>.
<a href="/">Search page</a>.</p>
{operations}
</main>
</body>
</html>
"""


def to_html(document: Json) -> str:
    """A section per operation: description, parameters, responses, examples."""
    operations = [
        _operation(document, path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    info = document["info"]
    return FRAME.format(
        title=escape(info["title"]),
        about=escape(info["description"].replace("`", "")),
        operations="\n".join(operations),
    )


def _operation(document: Json, path: str, method: str, operation: Json) -> str:
    parts = [f"<h2><code>{method.upper()} {escape(path)}</code></h2>"]
    parts.append(f"<p>{escape(operation.get('description', ''))}</p>")
    if parameters := operation.get("parameters"):
        rows = [(p["name"], _kind(p["schema"]), p.get("description", "")) for p in parameters]
        parts.append(_table("Parameters", rows))
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(_content(document, f"Body, {kind}", content))
    parts.append(_table("Responses", [
        (status, response.get("description", ""), "") for status, response in
        sorted(operation["responses"].items())
    ]))  # fmt: skip
    success = next((r for s, r in operation["responses"].items() if s.startswith("2")), {})
    for kind, content in success.get("content", {}).items():
        parts.append(_content(document, f"Response, {kind}", content))
    return f"<section>{''.join(parts)}</section>"


def _content(document: Json, title: str, content: Json) -> str:
    schema = _resolve(document, content.get("schema", {}))
    html = f"<h3>{escape(title)}</h3>"
    if fields := schema.get("properties"):
        rows = [
            (name, _kind(field), field.get("description", "")) for name, field in fields.items()
        ]
        html += _table(schema.get("title", "Fields"), rows)
    if "example" in schema:
        html += f'<pre tabindex="0">{escape(json.dumps(schema["example"], indent=2))}</pre>'
    return html


def _table(caption: str, rows: list[tuple[str, str, str]]) -> str:
    lines = [
        f"<tr><th scope=row><code>{escape(name)}</code></th>"
        f"<td>{escape(kind)}</td><td>{escape(text)}</td></tr>"
        for name, kind, text in rows
    ]
    return f"<table><caption>{escape(caption)}</caption>{''.join(lines)}</table>"


def _resolve(document: Json, schema: Json) -> Json:
    name = schema.get("$ref", "").rpartition("/")[2]
    return document["components"]["schemas"][name] if name else schema


def _kind(schema: Json) -> str:
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    if "enum" in schema:
        return " or ".join(schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_kind(part) for part in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_kind(schema['additionalProperties'])}"
    return schema.get("type", "anything")
