"""The page that documents the API, made from a small OpenAPI document."""

from tools.server.docs import to_html


def reference(name: str) -> dict:
    return {"$ref": f"#/components/schemas/{name}"}


def json_content(name: str) -> dict:
    return {"content": {"application/json": {"schema": reference(name)}}}


FIELDS = {
    "size": {"enum": ["160", "320"], "description": "In <pixels>"},
    "box": {"anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "null"}]},
    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
    "extra": {"type": "object", "additionalProperties": True},
    "best": reference("Hit"),
    "any": {},
}
DOCUMENT = {
    "info": {"title": "A & B", "description": "Errors are `{}`."},
    "paths": {
        "/find/{key}": {
            "post": {
                "description": "Find <it>",
                "parameters": [{"name": "key", "schema": {"type": "string"}, "description": "x"}],
                "requestBody": json_content("Query"),
                "responses": {
                    "404": {"description": "No such <key>"},
                    "201": {"description": "Made"} | json_content("Hit"),
                },
            }
        }
    },
    "components": {
        "schemas": {
            "Query": {"title": "Query", "properties": FIELDS},
            "Hit": {"properties": {"id": {"type": "integer"}}, "example": {"id": "<7>"}},
        }
    },
}


def row(name: str, kind: str, text: str = "") -> str:
    return f"<tr><th scope=row><code>{name}</code></th><td>{kind}</td><td>{text}</td></tr>"


def test_every_field_has_its_kind_and_every_text_is_escaped() -> None:
    html = to_html(DOCUMENT)
    parameters, body, responses, response = html.split("<table>")[1:]
    assert "<h1>A &amp; B API</h1>\n<p>Errors are {}.</p>" in html
    assert "<h2><code>POST /find/{key}</code></h2><p>Find &lt;it&gt;</p>" in html
    assert parameters.startswith("<caption>Parameters</caption>" + row("key", "string", "x"))
    assert parameters.endswith("<h3>Body, application/json</h3>")
    rows = [
        row("size", "160 or 320", "In &lt;pixels&gt;"),
        row("box", "list of number or null"),
        row("labels", "object of string"),
        row("extra", "object"),
        row("best", "Hit"),
        row("any", "anything"),
    ]
    assert body == "<caption>Query</caption>" + "".join(rows) + "</table>"
    statuses = row("201", "Made") + row("404", "No such &lt;key&gt;")
    assert responses.startswith(f"<caption>Responses</caption>{statuses}</table>")
    assert responses.endswith("<h3>Response, application/json</h3>")
    assert response.startswith("<caption>Fields</caption>" + row("id", "integer"))
    assert "{\n  &quot;id&quot;: &quot;&lt;7&gt;&quot;\n}</pre></section>" in response
