"""The hooks: the only text on what a backend plugin provides.

A plugin is a small module that an entry point of the group `aligntune.backends` names; the entry point's
name is the backend's. Describing a backend must be cheap: only `build_trainer` may import a training library.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from aligntune_core.environment import Environment
    from aligntune_core.values import AlgorithmSupport, Availability, BackendTrainer, TrainRequest

PROJECT = "aligntune"
GROUP = "aligntune.backends"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

REQUIRED = ("provides_algorithms", "is_available", "build_trainer")


class BackendSpecs:
    """Each hook is asked of one backend at a time, so its result is a plain value."""

    @hookspec(firstresult=True)
    def provides_algorithms(self) -> Iterable[AlgorithmSupport]:  # type: ignore[empty-body]
        """Say what this backend trains.

        Returns:
            One `AlgorithmSupport` for each algorithm.

        Rules:
            Imports no training library; it may read an installed version's metadata.

        Example:
            @hookimpl
            def provides_algorithms():
                cells = {("chat_completion", "causal_lm"): Support("full")}
                return [AlgorithmSupport(algorithm="sft", cells=cells, settings=frozenset({"learning_rate"}))]
        """

    @hookspec(firstresult=True)
    def is_available(self, environment: Environment, request: TrainRequest | None) -> Availability:  # type: ignore[empty-body]
        """Say whether this backend can run here and now.

        Args:
            environment: the machine; judge by this, not by what you find yourself.
            request: what is to be trained, or None when only the machine is asked about.

        Returns:
            `Availability(True)`, or one with a reason and a remedy.

        Rules:
            Cheap, opens no GPU context, imports no training library, never raises.

        Example:
            @hookimpl
            def is_available(environment):
                if "torch" not in environment.packages:
                    return Availability(False, "torch is not installed", "pip install torch")
                return Availability(True)
        """

    @hookspec(firstresult=True)
    def build_trainer(self, request: TrainRequest) -> BackendTrainer:  # type: ignore[empty-body]
        """Load the model and give a trainer that is ready to train.

        Args:
            request: validated settings and rows.

        Returns:
            An object with the methods of `BackendTrainer`.

        Raises:
            ConfigError: a setting that only the library can judge is wrong.

        Rules:
            The only hook that may import a training library. Writes nothing outside `request.work_dir`.

        Example:
            @hookimpl
            def build_trainer(request):
                from my_backend.trainer import MyTrainer

                return MyTrainer(request)
        """

    @hookspec(firstresult=True)
    def tiny_model(self, model_type: str, path: Path) -> bool:  # type: ignore[empty-body]
        """Optional: write a tiny untrained model with its tokenizer to `path`, the same at each call.

        Args:
            model_type: one of `aligntune_core.values.MODEL_TYPES`.
            path: a folder that does not exist yet.

        Returns:
            True if it was written, False if this backend has none of that type.

        Rules:
            Offline and deterministic. `aligntune demo` and the test kit train it.

        Example:
            @hookimpl
            def tiny_model(model_type, path):
                from my_backend.tiny import write_model

                return write_model(model_type, path)
        """
