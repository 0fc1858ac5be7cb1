"""What the tests with the real Unsloth share. They run on its CPU backend."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ["ALIGNTUNE_UNSLOTH_CPU"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny causal model, the same at each call."""
    from aligntune_trl.tiny import write_tiny_model  # not before Unsloth, where that is imported here

    path = tmp_path_factory.mktemp("tiny") / "model"
    write_tiny_model("causal_lm", path)
    return path
