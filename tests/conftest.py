"""What all tests share: the test kit's fixtures, seeded property tests, and an environment without surprises."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "quick",
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("quick")

SURPRISING = (
    "ALIGNTUNE_PLUGINS",
    "ALIGNTUNE_DISABLE_PLUGINS",
    "ALIGNTUNE_STRICT_PLUGINS",
    "ALIGNTUNE_TRACE_PLUGINS",
    "RANK",
    "WORLD_SIZE",
    "CUDA_VISIBLE_DEVICES",
)


@pytest.fixture(scope="session", autouse=True)
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reaches a hub, and the libraries' caches are folders of this run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf")))
        yield


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the developer's shell has set does not count."""
    for name in SURPRISING:
        monkeypatch.delenv(name, raising=False)
