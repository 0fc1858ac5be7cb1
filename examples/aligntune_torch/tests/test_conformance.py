"""The conformance suite, which every backend runs, for this one."""

from __future__ import annotations

from aligntune_core.testing import BackendSuite


class TestTorch(BackendSuite):
    backend = "torch"
