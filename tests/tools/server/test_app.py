"""The application: the page's files, the description of the API, its token and its host names."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi import FastAPI

from retrieval.store import open_database
from tests.tools.server.world import ask, make_database, make_item, make_service
from tools.server.app import PAGE, create_app
from tools.server.limits import Limits
from tools.server.service import Service

PAGE_FILES = sorted(f"/{path.name}" for path in PAGE.iterdir() if path.name != "index.html")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("world")
    with open_database(make_database(folder), read_only=True) as store:
        yield make_service(store, folder / "photos", Limits())


@pytest.fixture(scope="module")
def app(service: Service) -> FastAPI:
    return create_app(service)


def test_files_of_the_page_are_served(app: FastAPI) -> None:
    assert "text/html" in ask(app, "GET", "/").headers["content-type"]
    assert ask(app, "GET", "/").headers["cache-control"] == "no-cache", "a new version may come"
    for path in PAGE_FILES:
        response = ask(app, "GET", path)
        kind = "text/css" if path.endswith("css") else "text/javascript"
        assert response.headers["content-type"] == f"{kind}; charset=utf-8"
    for path in ("/page/../serve.py", "/../serve.py", "/..%2Fserve.py", "/serve.py", "/tools"):
        assert ask(app, "GET", path).status == 404


def test_other_files_beside_the_page_are_not_served(
    service: Service, tmp_path: Path, monkeypatch
) -> None:
    for name in ("main.js", "notes.txt", "main.js~", ".env"):
        (tmp_path / name).write_text("")
    monkeypatch.setattr("tools.server.app.PAGE", tmp_path)
    app = create_app(service)
    assert ask(app, "GET", "/main.js").status == 200
    for name in ("notes.txt", "main.js~", ".env"):
        assert ask(app, "GET", f"/{name}").status == 404


def test_page_requests_no_other_host(app: FastAPI) -> None:
    for path in ("/", "/docs", *PAGE_FILES):
        response = ask(app, "GET", path)
        assert response.status == 200
        text = response.body.decode().replace("http://www.w3.org/", "")
        assert "//" not in text.replace("http://127.0.0.1", "").replace("// ", "")
        assert "<script>" not in text and " style=" not in text and " onclick=" not in text


def test_api_description_has_an_example_for_everything(app: FastAPI) -> None:
    document = ask(app, "GET", "/openapi.json").json
    docs = ask(app, "GET", "/docs").body.decode()
    for path, methods in document["paths"].items():
        assert path in docs
        for operation in methods.values():
            success = next(v for s, v in operation["responses"].items() if s.startswith("2"))
            for kind, content in success.get("content", {}).items():
                if kind == "application/json":
                    name = content["schema"]["$ref"].rpartition("/")[2]
                    assert "example" in document["components"]["schemas"][name], path


def test_token_is_exchanged_for_a_cookie(service: Service) -> None:
    token = "a token of some length"
    app = create_app(service, token=token)
    picture = f"/api/photo/{quote(make_item(7).key, safe='')}"
    assert ask(app, "GET", picture).status == 401
    assert ask(app, "POST", "/api/session", body={"token": "another"}).status == 401
    response = ask(app, "POST", "/api/session", body={"token": token})
    cookie = response.headers["set-cookie"]
    assert response.status == 204 and token not in cookie
    assert "secure" not in cookie.lower(), "this connection is not encrypted"
    assert {"httponly", "samesite=strict"} <= {part.strip().lower() for part in cookie.split(";")}
    assert ask(app, "GET", picture, headers={"Cookie": cookie.partition(";")[0]}).status == 200

    async def encrypted(scope, receive, send) -> None:
        await app(scope | {"scheme": "https"}, receive, send)

    response = ask(encrypted, "POST", "/api/session", body={"token": token})
    assert "secure" in response.headers["set-cookie"].lower()


def test_application_has_its_own_host_names_and_may_need_no_token(service: Service) -> None:
    app = create_app(service, hosts=frozenset({"weft.example"}))
    assert ask(app, "GET", "/api/health").status == 403
    for token in ("any", ""):
        response = ask(
            app, "POST", "/api/session", headers={"Host": "weft.example"}, body={"token": token}
        )
        assert response.status == 204 and "set-cookie" not in response.headers
