"""Serves the search page and its HTTP API over a database of garments.

    python tools/serve.py --database DB                       # then open http://127.0.0.1:8000
    python tools/serve.py --database http://milvus:19530#garments --photos /data/photos
    python tools/serve.py --database DB --browse-only         # no models: stored garments only
    WEFT_TOKEN=... python tools/serve.py --database DB --host 0.0.0.0     # for others

Drop a photo on the page: it detects the garments and ranks stored ones by item, color, texture and
shape, weighted by sliders. The API is documented under /docs; for example:

    curl --data-binary @street.jpg -H 'Content-Type: image/jpeg' http://127.0.0.1:8000/api/detect
    curl -H 'Content-Type: application/json' http://127.0.0.1:8000/api/search \\
         -d '{"key": "shirts/1607.jpg#1", "weights": {"color": 1}, "k": 5}'

Uploaded photos are never written to disk; their garments' vectors are kept in memory for half an
hour. Serving other machines requires a token; put a TLS proxy in front. A proxy on this machine
needs no --host, only the token.
"""

import argparse
import ipaddress
import logging
import os
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import uvicorn

from engine import distributed
from engine.command_line import Parser, positive
from engine.config import require
from engine.errors import InputError, exits_cleanly
from engine.model_flags import (
    DETECTOR_WEIGHTS,
    add_detector_flags,
    add_multitask_flag,
    add_running_flags,
    build_describer,
    build_finder,
)
from engine.wording import counted
from retrieval.embedders import embedder_for
from retrieval.pictures import ROOT
from retrieval.store import Store, open_database
from tools.server.app import create_app
from tools.server.idle_timeout import IdleTimeoutProtocol
from tools.server.limits import MEBI, Limits
from tools.server.pictures import Pictures
from tools.server.service import Service
from tools.server.vision import Vision

TOKEN = "WEFT_TOKEN"
SHORTEST_TOKEN = 16
CONNECTIONS = 512
OWN_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


def serve(arguments: argparse.Namespace) -> None:
    """Open the database and the models, then serve until Ctrl-C."""
    token = read_token(arguments)
    limits = Limits(
        upload_bytes=arguments.max_upload * MEBI, upload_pixels=arguments.max_pixels * 1_000_000
    )
    with (
        listen(arguments.host, arguments.port) as listener,
        open_database(arguments.database, read_only=True) as store,
    ):
        pictures = Pictures(photo_root(arguments.photos, store), limits.thumbnail_bytes)
        vision = None if arguments.browse_only else open_vision(arguments, store, limits)
        # Not with a token, which a page that rebinds its name lacks: a proxy passes its own name.
        hosts = None if token else OWN_NAMES | {arguments.host}
        app = create_app(Service(store, vision, pictures, limits), token=token, hosts=hosts)
        print(f"{counted(store.count(), 'garment')}; open {address_of(listener)}", flush=True)
        config = uvicorn.Config(
            app, http=IdleTimeoutProtocol, log_config=None, access_log=False, server_header=False,
            limit_concurrency=CONNECTIONS,
        )  # fmt: skip
        uvicorn.Server(config).run(sockets=[listener])


def address_of(listener: socket.socket) -> str:
    """The URL to open in a browser."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def read_token(arguments: argparse.Namespace) -> str | None:
    """The token from the flag, or from the environment, which hides it from other users.

    Raises:
        InputError: too short, or none although other machines can reach the server.
    """
    token = arguments.token or os.environ.get(TOKEN) or None
    require(
        token is None or (len(token) >= SHORTEST_TOKEN and token.isascii() and token.isprintable()),
        f"--token: give at least {SHORTEST_TOKEN} plain characters, such as "
        "python -c 'import secrets; print(secrets.token_urlsafe())' prints",
    )
    require(
        token is not None or is_loopback(arguments.host),
        f"--host {arguments.host}: others could use the server; protect it with --token TEXT "
        f"or the environment variable {TOKEN}",
    )
    return token


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server on this host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """Open the port; done before loading the models, which takes a while.

    Raises:
        InputError: the host or port cannot be used.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=CONNECTIONS)
    except (OSError, OverflowError, TypeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot listen on {host} port {port}: {reason}; choose others") from error
    # Connections inherit this option; asyncio sets it only on sockets that it creates. Without it
    # the second packet of every response waits 40 ms for the client to acknowledge the first.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def photo_root(given: Path | None, store: Store) -> Path | None:
    """The folder of the stored photos: the flag's, else the database's; None if there is none."""
    stored = store.about.get(ROOT)
    root = given or (Path(stored) if stored else None)
    require(given is None or given.is_dir(), f"--photos {given}: no such folder")
    if root is None or not root.is_dir():
        why = f"{root} does not exist" if root else "the database does not name their folder"
        logging.getLogger("weft").warning(
            "results come without pictures: %s; give --photos DIR", why
        )
        return None
    return root


def open_vision(arguments: argparse.Namespace, store: Store, limits: Limits) -> Vision | None:
    """The models; None if no flag names any and the included ones are missing or do not match.

    Raises:
        InputError: the models that the flags name cannot be used.
    """
    requested = arguments.whole_photo or arguments.multitask_weights is not None
    try:
        return build_vision(arguments, store, limits)
    except InputError as error:
        if requested or arguments.detector_weights != DETECTOR_WEIGHTS:
            raise
        logging.getLogger("weft").warning(
            "photos cannot be uploaded, only stored garments can be searched: %s", error
        )
        return None


def build_vision(arguments: argparse.Namespace, store: Store, limits: Limits) -> Vision:
    """The models that the flags name, checked against the database's features."""
    device = distributed.init(arguments.device)
    describer = build_describer(arguments, device)
    embedder = embedder_for(store.schema, describer, store.name)
    if arguments.whole_photo:
        return Vision(None, embedder, limits)
    finder = build_finder(arguments, device)
    finder.model.eval()  # builds the model now, not when the first photo comes
    return Vision(finder, embedder, limits)


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument(
        "--database", required=True, metavar="DB", help="folder, or Milvus: http://host:port#name"
    )
    parser.add_argument(
        "--photos", type=Path, metavar="DIR",
        help="folder of the database's photos (default: where it was built from)",
    )  # fmt: skip
    reach = parser.add_argument_group("who can reach it")
    reach.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this "
        "machine only; others require a token)",
    )  # fmt: skip
    reach.add_argument(
        "--port", type=int, default=8000, help="port to listen on (default: 8000; 0: any free one)"
    )
    reach.add_argument(
        "--token", metavar="TEXT",
        help=f"secret that clients must send (default: the environment variable {TOKEN})",
    )  # fmt: skip
    uploads = parser.add_argument_group("uploaded photos")
    uploads.add_argument(
        "--browse-only", action="store_true", help="accept no photos and load no model"
    )
    uploads.add_argument(
        "--whole-photo", action="store_true",
        help="treat each photo as one product, without detecting garments",
    )  # fmt: skip
    uploads.add_argument(
        "--max-upload", type=positive, default=20, metavar="MIB",
        help="refuse larger files (default: 20)",
    )  # fmt: skip
    uploads.add_argument(
        "--max-pixels", type=positive, default=50, metavar="MILLIONS",
        help="refuse photos of more pixels (default: 50)",
    )  # fmt: skip
    add_multitask_flag(uploads)
    add_detector_flags(parser)
    add_running_flags(parser)
    return parser.parse_args(argv)


@exits_cleanly
def main(argv: list[str] | None = None) -> None:
    distributed.configure_logging()
    serve(parse_arguments(argv))


if __name__ == "__main__":
    main()
