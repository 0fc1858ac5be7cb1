"""A run through the public door, with a backend that trains nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aligntune import Trainer, get_trainer
from aligntune_core.plugins import BackendRegistry
from aligntune_core.testing import FakeBackend

Start = Callable[..., Trainer]


@pytest.fixture
def start(use_registry: Callable[..., BackendRegistry], fake_model: Path, chat_file: Path, in_tmp: Path) -> Start:
    """Give `start(FakeBackend(…), setting=…)`: a quiet trainer of 6 steps in the folder `run`."""

    def get(fake: FakeBackend | None = None, **settings: Any) -> Trainer:
        use_registry(fake=fake or FakeBackend())
        usual: dict[str, Any] = {"model_name": str(fake_model), "dataset_name": str(chat_file), "output_dir": "run"}
        usual |= {"max_steps": 6, "save_steps": 2, "logging_steps": 1}
        trainer = get_trainer("sft", **{k: v for k, v in (usual | settings).items() if v is not None})
        trainer.listen()
        return trainer

    return get
