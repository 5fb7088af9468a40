"""Responses to generated requests, valid and invalid, match the API's description."""

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from retrieval.store import open_database
from tests.tools.server.world import make_database, make_service
from tools.server.app import create_app
from tools.server.limits import Limits

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory):
    folder = make_database(tmp_path_factory.mktemp("world")).parent
    with open_database(folder / "db", read_only=True) as store:
        app = create_app(make_service(store, folder / "photos", Limits(upload_bytes=10_000)))
        yield schemathesis.openapi.from_asgi("/openapi.json", app)


OPERATIONS = [
    ("POST", "/api/detect"),
    ("POST", "/api/search"),
    ("GET", "/api/items/{key}"),
    ("GET", "/api/photo/{key}"),
    ("GET", "/api/stats"),
    ("GET", "/api/health"),
    ("POST", "/api/session"),
]


def test_all_operations_are_listed(described) -> None:
    found = [operation.ok() for operation in described.get_all_operations()]
    assert {(one.method.upper(), one.path) for one in found} == set(OPERATIONS)


PICKY = ("/api/search", "/api/photo/{key}", "/api/session")  # the others take any text or nothing
CASES = [
    pytest.param(*operation, mode, id=f"{operation[1]}-{mode.value}")
    for operation in OPERATIONS
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or operation[1] in PICKY
]


@pytest.mark.parametrize(("method", "path", "mode"), CASES)
def test_responses_match_the_api_description(
    described, method: str, path: str, mode: GenerationMode
) -> None:
    operation = described[path][method]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=20, deadline=None, database=None, derandomize=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def check(case) -> None:
        case.call_and_validate(checks=CHECKS)

    check()
