"""A namespace of a real API server for each file, and an operator that works there alone."""

from collections.abc import Iterator

import pytest
from tests.operatorkit import OperatorProcess, Server, running_operator, server_alone


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with server_alone() as found:
        yield found


@pytest.fixture(scope="module")
def operator(
    server: Server, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[OperatorProcess]:
    """Its artifacts go to the file's own PREFIX."""
    prefix: str = request.module.PREFIX.format(namespace=server.namespace)
    with running_operator(server, tmp_path_factory.mktemp("operator"), prefix) as process:
        yield process
