"""A pod's inside and a registry, for tests of whole stages, and how hypothesis looks."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from tests.ociserver import FakeRegistry, registry_in_thread
from tests.pods import Pod

# A property holds or not; how long a machine takes to look is no part of it.
settings.register_profile("house", deadline=None)
settings.load_profile("house")


@pytest.fixture(scope="module")
def registry() -> Iterator[FakeRegistry]:
    with registry_in_thread() as running:
        yield running


@pytest.fixture
def pod(tmp_path: Path, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> Pod:
    return Pod(tmp_path, registry, monkeypatch)
