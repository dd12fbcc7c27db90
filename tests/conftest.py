"""What holds for every test."""

import os
from collections.abc import Iterator

import pytest

# Before torch is imported, and as the `mcnet` command does: on a busy machine threads that spin long starve themselves.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")


@pytest.fixture(autouse=True, scope="session")
def _measured_apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What the commands measure of this machine, they measure once for all tests; and leave the user's file alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
