"""A backend that trains nothing and keeps every promise: it counts, reports, saves and goes on from checkpoints."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aligntune_core.environment import Environment
from aligntune_core.hookspecs import hookimpl
from aligntune_core.values import AlgorithmSupport, Availability, RunEvents, Support, TrainRequest

DEFAULT_CELLS = {
    ("instruction_following", "causal_lm"): Support("full"),
    ("chat_completion", "causal_lm"): Support("full"),
}


class FakeTrainer:
    """A `BackendTrainer` whose loss falls as 1/step.

    Args:
        request: what was asked for.
        on_step: called with each step; tests raise, send signals or kill from it.
        loss: step → the loss to report.
    """

    def __init__(self, request: TrainRequest, on_step: Callable[[int], None], loss: Callable[[int], float]) -> None:
        self.request, self._on_step, self._loss = request, on_step, loss
        self.state = 0
        self.native = self
        self.resolved: Mapping[str, Any] = {"learning_rate": request.config.learning_rate}

    def train(self, events: RunEvents) -> None:
        config = self.request.config
        total = config.max_steps or round(len(self.request.train_rows) * config.num_epochs)
        if events.resume_from is not None:
            self.state = int(json.loads((events.resume_from / "state.json").read_text("utf-8"))["state"])
        events.start(total)
        while self.state < total:
            self.state += 1
            self._on_step(self.state)
            events.step(self.state)
            if self.state % config.logging_steps == 0:
                events.metrics(self.state, {"loss": self._loss(self.state)}, epoch=self.state / total)
            if self.state % config.save_steps == 0 or events.stopping:
                self._checkpoint(events)
            if events.stopping:
                return
        events.sample(self.state, "question", self.predict(["question"])[0])

    def _checkpoint(self, events: RunEvents) -> None:
        folder = self.request.work_dir / f"checkpoint-{self.state}"
        folder.mkdir(parents=True)
        (folder / "state.json").write_text(json.dumps({"state": self.state}), "utf-8")
        events.checkpoint(self.state, folder)

    def evaluate(self) -> Mapping[str, float]:
        return {"loss": 1.0 / (1 + self.state)}

    def predict(self, inputs: Sequence[Any]) -> list[Any]:
        return [f"answer {self.state}" for _ in inputs]

    def save(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        (path / "state.json").write_text(json.dumps({"state": self.state}), "utf-8")

    def preview(self, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        return [str(row).split() for row in rows]


class FakeBackend:
    """A backend plugin for tests; every promise of it can be bent.

    Args:
        algorithms: what it trains.
        preference: its rank for `auto`.
        cells: (task, model type) → Support.
        verdict: an Availability, or a function of the environment.
        on_step, loss: see `FakeTrainer`.
    """

    def __init__(
        self,
        algorithms: Iterable[str] = ("sft",),
        *,
        preference: int = 0,
        cells: Mapping[tuple[str, str], Support] | None = None,
        verdict: Availability | Callable[[Environment], Availability] = Availability(True),  # noqa: B008 - frozen
        on_step: Callable[[int], None] = lambda step: None,
        loss: Callable[[int], float] = lambda step: 1.0 / step,
    ) -> None:
        self._algorithms, self._preference = tuple(algorithms), preference
        self._cells, self._verdict = cells or DEFAULT_CELLS, verdict
        self._on_step, self._loss = on_step, loss
        self.requests: list[TrainRequest] = []

    @hookimpl
    def provides_algorithms(self) -> list[AlgorithmSupport]:
        from aligntune_core.config import TrainingConfig

        settings = frozenset(TrainingConfig.model_fields)
        return [
            AlgorithmSupport(algorithm=a, cells=self._cells, preference=self._preference, settings=settings)
            for a in self._algorithms
        ]

    @hookimpl
    def is_available(self, environment: Environment) -> Availability:
        return self._verdict if isinstance(self._verdict, Availability) else self._verdict(environment)

    @hookimpl
    def build_trainer(self, request: TrainRequest) -> FakeTrainer:
        self.requests.append(request)
        return FakeTrainer(request, self._on_step, self._loss)

    @hookimpl
    def tiny_model(self, model_type: str, path: Path) -> bool:
        return write_fake_model(path)


def write_fake_model(path: Path) -> bool:
    """A folder that core takes for a causal language model: a config, and one empty safetensors file."""
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"model_type": "fake", "architectures": ["FakeForCausalLM"]}), "utf-8")
    header = b"{}"
    (path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return True
