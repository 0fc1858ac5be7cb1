"""The test kit for authors of backends: a fake backend, fake entry points, and pytest fixtures (`testing.fixtures`)."""

from aligntune_core.testing.entry_points import FakeDistribution, fake_entry, make_registry
from aligntune_core.testing.fake_backend import FakeBackend, FakeTrainer

__all__ = ["FakeBackend", "FakeDistribution", "FakeTrainer", "fake_entry", "make_registry"]
