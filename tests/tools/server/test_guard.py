"""The guard: host names, other sites, tokens, body size and time, and security headers."""

import asyncio

import pytest
from starlette.types import ASGIApp

from tests.tools.server.world import ask
from tools.server.guard import (
    HEADERS,
    Guard,
    bounded_body,
    host_name,
    refuse_long,
    session_of,
    too_long,
)
from tools.server.limits import Limits, Refusal

TOKEN = "correct horse battery"
LIMITS = Limits(upload_bytes=2000, json_bytes=100)


async def echo(scope, receive, send) -> None:
    """An application that responds with the length of the body."""
    length, more = 0, True
    while more:
        message = await receive()
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(length).encode()})


def guard(**options) -> ASGIApp:
    return Guard(echo, limits=LIMITS, **{"hosts": None, "token": None} | options)


def status(app: ASGIApp, path: str, method: str = "GET", **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ask(app, method, path, headers=named).status


GUARDED = guard(token=TOKEN)


@pytest.mark.parametrize(
    ("host", "name"),
    [("LocalHost:80", "localhost"), ("[::1]:8000", "::1"), ("a.b", "a.b"), ("", "")],
)
def test_host_names_are_parsed(host: str, name: str) -> None:
    assert host_name(host) == name


def test_other_host_names_are_refused() -> None:
    app = guard(hosts=frozenset({"localhost", "::1"}))
    assert status(app, "/") == status(app, "/", host="[::1]:8000") == 200
    for host in ("evil.example", "localhost.evil.example", "127.0.0.2", ""):
        assert status(app, "/", host=host) == 403


@pytest.mark.parametrize(
    ("method", "site", "mode", "wanted"),
    [
        ("GET", "same-origin", "cors", 200),
        ("GET", "none", "navigate", 200),
        ("GET", "cross-site", "navigate", 200),  # a link somewhere else that leads to the page
        ("POST", "cross-site", "navigate", 403),  # a form somewhere else
        ("GET", "cross-site", "no-cors", 403),
        ("POST", "same-site", "cors", 403),
    ],
)
def test_pages_of_other_sites_are_refused(method: str, site: str, mode: str, wanted: int) -> None:
    found = status(guard(), "/api/search", method, sec_fetch_site=site, sec_fetch_mode=mode)
    assert found == wanted


def test_token_gives_access_to_the_api() -> None:
    assert status(GUARDED, "/api/stats") == 401
    for kind in ("Bearer", "bearer"):
        assert status(GUARDED, "/api/stats", authorization=f"{kind} {TOKEN}") == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": "Bearer "},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer \xff"},
        {"Cookie": f"weft_session={TOKEN}"},  # the cookie never holds the token itself
        {"Cookie": "weft_session=" + "0" * 64},
        {"Cookie": "weft_session=\x80; ;;="},
    ],
)
def test_wrong_tokens_are_refused(headers: dict[str, str]) -> None:
    assert ask(GUARDED, "GET", "/api/stats", headers=headers).status == 401


@pytest.mark.parametrize("others", ["other=1", "a/b=1", "flag", '{"a":1}', "x=\xff", ""])
def test_cookie_gives_access_to_the_api(others: str) -> None:
    """Whatever else is sent: cookies of all servers on a machine share its host name."""
    cookie = f"weft_session={session_of(TOKEN.encode()).decode()}"
    for sent in (f"{others}; {cookie}", f"{cookie}; {others}"):
        assert status(GUARDED, "/api/photo/x", cookie=sent) == 200


def test_page_and_health_need_no_token() -> None:
    for path in ("/", "/main.js", "/docs", "/api/health"):
        assert status(GUARDED, path) == 200
    assert status(GUARDED, "/api/healthy") == 401


@pytest.mark.parametrize(
    ("path", "size", "wanted"),
    [("/api/search", 100, 200), ("/api/search", 101, 413), ("/api/detect", 2000, 200),
     ("/api/detect", 2001, 413), ("/api/detected", 101, 413)],
)  # fmt: skip
def test_long_bodies_are_refused(path: str, size: int, wanted: int) -> None:
    response = ask(guard(), "POST", path, body=b"x" * size)
    assert response.status == wanted
    assert wanted == 200 or response.json["detail"].startswith("More than")


def test_every_response_has_the_security_headers() -> None:
    app = guard(hosts=frozenset({"localhost"}))
    for host in ("localhost", "evil"):
        response = ask(app, "GET", "/", headers={"Host": host})
        assert HEADERS.items() <= {name: response.headers.get(name) for name in HEADERS}.items()
        assert response.headers["Cache-Control"] == "no-store"
    assert "unsafe" not in HEADERS["Content-Security-Policy"]


def test_body_is_counted_whatever_length_was_declared() -> None:
    parts = iter([{"type": "http.request", "body": b"x" * 60, "more_body": True}] * 2)

    async def receive() -> dict:
        return next(parts)

    async def story() -> None:
        bounded = bounded_body(receive, 100, 5)
        await bounded()
        with pytest.raises(Refusal) as refused:
            await bounded()
        assert refused.value.status_code == 413

    asyncio.run(story())


@pytest.mark.parametrize("declared", ["", "100", "-1", "x", "²"])
def test_other_declared_lengths_are_left_to_the_count(declared: str) -> None:
    refuse_long(declared, 100)


@pytest.mark.parametrize("declared", ["101", "9" * 5000])  # more digits than int() takes
def test_a_declared_length_is_refused_before_anything_is_read(declared: str) -> None:
    asked = []

    async def story() -> None:
        scope = {"type": "http", "method": "POST", "path": "/api/search"}
        headers = [(b"content-length", declared.encode())]

        async def send(message: dict) -> None:
            asked.append(message.get("status"))

        async def receive() -> dict:
            raise AssertionError("the body was read")

        await guard()(scope | {"headers": headers}, receive, send)

    asyncio.run(story())
    assert asked[0] == 413


def test_limits_are_named_in_round_numbers() -> None:
    assert too_long(64 << 10).detail == "More than 64 KiB were sent; send a smaller file"
    assert too_long(20 << 20).detail == "More than 20 MiB were sent; send a smaller file"


def test_body_that_trickles_in_times_out() -> None:
    async def part() -> dict:
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def story() -> None:
        bounded = bounded_body(part, 100, 0.05)
        with pytest.raises(Refusal) as refused:
            for _ in range(4):
                await bounded()
        assert refused.value.status_code == 408

    asyncio.run(story())


def test_slow_body_times_out() -> None:
    async def story() -> None:
        with pytest.raises(Refusal) as refused:
            await bounded_body(asyncio.Event().wait, 100, 0.01)()
        assert refused.value.status_code == 408

    asyncio.run(story())


def test_no_timeout_after_the_body() -> None:
    async def late() -> dict:
        await asyncio.sleep(0.05)
        return {"type": "http.disconnect"}

    async def whole() -> dict:
        return {"type": "http.request", "body": b""}

    async def story() -> None:
        sources = iter([whole, late])
        bounded = bounded_body(lambda: next(sources)(), 100, 0.01)
        await bounded()
        assert (await bounded())["type"] == "http.disconnect"

    asyncio.run(story())
