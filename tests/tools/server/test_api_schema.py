"""Whatever fits the API's description is answered as described, and whatever does not, too."""

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
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


schema = schemathesis.pytest.from_fixture("described")


@schema.parametrize()
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_answers_are_as_described(case) -> None:
    case.call_and_validate(checks=CHECKS)
