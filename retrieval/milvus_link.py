"""Connection to a Milvus server: address, calls with one-sentence errors, collections."""

import json
import logging
import re
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import grpc
from pymilvus import DataType, MilvusClient
from pymilvus.client.types import LoadState
from pymilvus.exceptions import MilvusException

from engine.errors import InputError

# pymilvus prints every refused call with its traceback; ours are raised as one sentence.
logging.getLogger("pymilvus").setLevel(logging.CRITICAL)

CONNECT_SECONDS = 10
CALL_SECONDS = 60
LOAD_SECONDS = 600  # a large collection is read into the memory of the query nodes
TEXT_BYTES = 65_535  # what Milvus holds in one VARCHAR
TAGS = 4_096  # and in one ARRAY


@dataclass(frozen=True)
class Address:
    """The parts of ``http://[user:password@]host:port[/database]#collection``."""

    server: str
    collection: str
    database: str = ""
    user: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, location: str) -> "Address":
        """InputError if a part is missing or malformed."""
        try:
            parts = urlsplit(location)
            host, port = parts.hostname, parts.port or 19530
        except ValueError as error:
            # The message leaves out the location, which may hold a password.
            raise InputError(f"address of the Milvus server: {error}") from None
        if not host or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,200}", parts.fragment):
            raise InputError(
                f"{parts.scheme}://{host or ''}#{parts.fragment}: write a Milvus database as "
                "http://host:19530#collection, the collection in letters, digits and underscores"
            )
        return cls(
            server=f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}",
            collection=parts.fragment,
            database=parts.path.strip("/"),
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
        )

    def __str__(self) -> str:
        return f"{self.server}{self.database and '/' + self.database}#{self.collection}"


class Link:
    """A connection whose failures are InputErrors."""

    def __init__(self, address: Address) -> None:
        self.address = address
        try:
            self._client: MilvusClient | None = MilvusClient(
                address.server,
                user=address.user,
                password=address.password,
                db_name=address.database,
                timeout=CONNECT_SECONDS,
            )
        except (MilvusException, grpc.RpcError) as error:
            raise InputError(
                f"{address}: no Milvus server responds ({reason(error)}); start it, or "
                "check host, port and password"
            ) from error

    def call(self, method: str, *args: Any, timeout: float = CALL_SECONDS, **kwargs: Any) -> Any:
        """Call ``MilvusClient.method(...)``; InputError if it fails or takes too long."""
        if self._client is None:
            raise InputError(f"{self.address}: used after it was closed")
        try:
            return getattr(self._client, method)(*args, timeout=timeout, **kwargs)
        except (MilvusException, grpc.RpcError) as error:
            raise InputError(
                f"{self.address}: Milvus could not {method.replace('_', ' ')} ({reason(error)})"
            ) from error

    def close(self) -> None:
        """Close the connection; closing twice is harmless."""
        if self._client is not None:
            self._client.close()
        self._client = None


def reason(error: Exception) -> str:
    """The message of Milvus or of the connection, as one line of at most 200 characters."""
    if isinstance(error, grpc.Call):
        if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
            return "no answer in time"
        text = error.details() or error.code().name
    else:
        text = str(getattr(error, "message", "") or error)
    return (text.strip().splitlines() or [type(error).__name__])[0][:200]


def read_note(link: Link, collection: str) -> dict[str, Any] | None:
    """The note that ``create_collection`` stored; None if there is no such collection.

    Raises:
        InputError: the collection was created by another program.
    """
    if not link.call("has_collection", collection):
        return None
    try:
        note = json.loads(link.call("describe_collection", collection)["description"])
        return dict(note["weft"])
    except (ValueError, KeyError, TypeError):
        raise InputError(
            f"{link.address}: the collection {collection} was created by another program; "
            "choose another name"
        ) from None


def create_collection(
    link: Link, collection: str, *, texts: tuple[str, ...], tags: bool, dim: int, note: dict
) -> None:
    """Create a collection of VARCHAR fields, the first of them its key, and one vector field.

    The note becomes the collection's description: written in the same step, never changed.

    Args:
        tags: whether to add a field ``tags``, an array of VARCHAR.
        dim: of the vectors.
    """
    schema = MilvusClient.create_schema(
        auto_id=False, enable_dynamic_field=False, description=json.dumps({"weft": note})
    )
    for name in texts:
        schema.add_field(name, DataType.VARCHAR, is_primary=name == texts[0], max_length=TEXT_BYTES)
    if tags:
        schema.add_field(
            "tags",
            DataType.ARRAY,
            element_type=DataType.VARCHAR,
            max_capacity=TAGS,
            max_length=TEXT_BYTES,
        )
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
    # One shard, so that all rows of a call go through one channel and become visible together.
    link.call("create_collection", collection, schema=schema, num_shards=1)


def load_collections(link: Link, collections: tuple[str, ...]) -> None:
    """Create missing indexes, load collections that are not loaded, and wait for them.

    Also completes what a process that was killed in between left undone.

    Raises:
        InputError: not loaded after LOAD_SECONDS.
    """
    waiting = [c for c in collections if _state(link, c) != LoadState.Loaded]
    for collection in waiting:
        if not link.call("list_indexes", collection):
            # FLAT compares with every vector: exact for any weights of a query, unlike graph and
            # cluster indexes over the concatenated vectors.
            index = MilvusClient.prepare_index_params()
            index.add_index("vector", index_type="FLAT", metric_type="IP")
            link.call("create_index", collection, index, sync=False)
        link.call("load_collection", collection, _async=True)
    until = time.monotonic() + LOAD_SECONDS
    while any(_state(link, collection) != LoadState.Loaded for collection in waiting):
        if time.monotonic() > until:
            raise InputError(
                f"{link.address}: not loaded after {LOAD_SECONDS} s; check the server's log"
            )
        time.sleep(0.1)


def _state(link: Link, collection: str) -> LoadState:
    return link.call("get_load_state", collection)["state"]
