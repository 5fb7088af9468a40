"""Checks before every request: access, body size, and security headers for browsers.

A browser can send requests to a server on this machine on behalf of any page it shows. So requests
from pages of other sites are refused (``Sec-Fetch-Site`` identifies them), as are, without a token,
foreign host names that point here (DNS rebinding), and headers keep other sites from embedding
these pages.
"""

import asyncio
import hashlib
import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tools.server.limits import Limits, Refusal

COOKIE = "weft_session"
UPLOAD = "/api/detect"
OPEN = frozenset({"/api/health", "/api/session"})  # need no token
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Guard:
    """ASGI middleware that checks every request and adds headers to every response.

    Args:
        app: the application behind it.
        limits: on requests' bodies.
        hosts: host names that requests may use, without port; None for any.
        token: required for the API; None for none.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: Limits,
        hosts: frozenset[str] | None,
        token: str | None,
    ) -> None:
        self.app, self.limits, self.hosts = app, limits, hosts
        self.token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            headers = Headers(scope=scope)
            self._check(scope, headers)
            limit = self.limits.json_bytes
            if scope["path"] == UPLOAD:
                limit = self.limits.upload_bytes
            refuse_long(headers.get("content-length", ""), limit)
        except Refusal as refusal:
            response = JSONResponse(
                {"detail": refusal.detail}, refusal.status_code, refusal.headers
            )
            await response(scope, receive, send_with_headers)
            return
        bounded = bounded_body(receive, limit, self.limits.body_seconds)
        if scope["method"] == "HEAD":  # answered like GET; uvicorn leaves out the body
            scope = scope | {"method": "GET"}
        await self.app(scope, bounded, send_with_headers)

    def _check(self, scope: Scope, headers: Headers) -> None:
        if self.hosts is not None and host_name(headers.get("host", "")) not in self.hosts:
            raise Refusal(403, "This server accepts only its own host name; see --host")
        foreign = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        follows_link = scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"
        if foreign and not follows_link:
            raise Refusal(403, "Requests from pages of other sites are refused")
        path = scope["path"]
        needs_token = path.startswith("/api/") and path not in OPEN
        if needs_token and self.token is not None and not self._has_token(headers):
            raise Refusal(401, "Send the server's token: Authorization: Bearer TOKEN")

    def _has_token(self, headers: Headers) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and same(given.encode(), self.token):
            return True
        # http.cookies would refuse all cookies for one that it cannot parse, and browsers also send
        # those of other servers on this machine.
        cookies = headers.get("cookie", "").split(";")
        pairs = [cookie.strip().partition("=") for cookie in cookies]
        session = session_of(self.token)
        return any(name == COOKIE and same(value.encode(), session) for name, _, value in pairs)


def same(given: bytes, secret: bytes) -> bool:
    """Compare in a time that reveals nothing about the secret, not even its length."""
    digests = (hashlib.sha256(text).digest() for text in (given, secret))
    return hmac.compare_digest(*digests)


def session_of(token: bytes) -> bytes:
    """The value of the page's cookie, from which the token cannot be derived."""
    return hmac.new(token, b"weft page", "sha256").hexdigest().encode()


def host_name(host: str) -> str:
    """The name in a Host header: without port, lower case, IPv6 without brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()


def refuse_long(declared: str, limit: int) -> None:
    """Refusal 413 if the declared Content-Length exceeds the limit in bytes."""
    if declared.isdecimal() and int(declared[:20]) > limit:
        raise too_long(limit)


def too_long(limit: int) -> Refusal:
    """The refusal of a body above a limit in bytes."""
    size = f"{limit / (1 << 20):.0f} MiB" if limit >= 1 << 20 else f"{limit >> 10} KiB"
    return Refusal(413, f"More than {size} were sent; send a smaller file")


def bounded_body(receive: Receive, limit: int, seconds: float) -> Callable[[], Awaitable[Any]]:
    """Wrap ``receive``: raises Refusal for a body too long (413) or too slow (408)."""
    total, end, complete = 0, time.monotonic() + seconds, False

    async def bounded() -> MutableMapping[str, Any]:
        nonlocal total, complete
        if complete:  # waiting for the client to disconnect has no time limit
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), max(end - time.monotonic(), 0.001))
        except TimeoutError:
            raise Refusal(408, "The request did not arrive in time; try again") from None
        total += len(message.get("body", b""))
        complete = not message.get("more_body", False)
        if total > limit:
            raise too_long(limit)
        return message

    return bounded
