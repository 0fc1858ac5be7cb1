"""The test kit for authors of backends: the conformance suite, a fake backend, fake entry points, and fixtures.

`BackendSuite`, `Other` and `replaces` (the package `testing.suite`) need pytest, and load it only when they are asked
for; so do the fixtures: `pytest_plugins = ["aligntune_core.testing.fixtures"]` in a conftest.py.
"""

from typing import TYPE_CHECKING

from aligntune_core.testing.entry_points import FakeDistribution, fake_entry, make_registry
from aligntune_core.testing.fake_backend import FakeBackend, FakeTrainer
from aligntune_core.testing.installed_plugin import write_plugin

if TYPE_CHECKING:
    from aligntune_core.testing.suite import BackendSuite, Other, replaces

__all__ = [
    "BackendSuite",
    "FakeBackend",
    "FakeDistribution",
    "FakeTrainer",
    "Other",
    "fake_entry",
    "make_registry",
    "replaces",
    "write_plugin",
]


def __getattr__(name: str) -> object:
    if name in ("BackendSuite", "Other", "replaces"):
        from aligntune_core.testing import suite

        return getattr(suite, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
