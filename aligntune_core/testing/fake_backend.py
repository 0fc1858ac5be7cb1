"""A backend that trains nothing and keeps every promise: it counts, reports, saves and goes on from checkpoints."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aligntune_core.config import CONFIGS, TrainingConfig
from aligntune_core.environment import Environment
from aligntune_core.hookspecs import hookimpl
from aligntune_core.saved_values import MergeReport, OpenRequest, Sampling
from aligntune_core.values import (
    AlgorithmSupport,
    Availability,
    Preview,
    RowPreview,
    RowTokens,
    RunEvents,
    Support,
    TrainRequest,
)

DEFAULT_CELLS = {
    ("instruction_following", "causal_lm"): Support("full"),
    ("chat_completion", "causal_lm"): Support("full"),
}
STATE, RANDOM = "state.json", "random.json"
LUCK = 0.1
"""How much the seed changes a loss. The default seed is without luck: tests may count on its plain numbers."""


class FakeTrainer:
    """A `BackendTrainer` whose loss falls as 1/step.

    Args:
        request: what was asked for.
        on_step: called with each step; tests raise, send signals or kill from it.
        loss: step → the loss to report.
    """

    def __init__(self, request: TrainRequest, on_step: Callable[[int], None], loss: Callable[[int], float]) -> None:
        self.request, self._on_step, self._loss = request, on_step, loss
        self.step = 0
        self.skill = skill_of(request.config.model_name)
        self.native = self
        self.resolved: Mapping[str, Any] = request.config.model_dump(mode="json")
        self._random = random.Random(request.config.seed)  # noqa: S311 - no secret

    @property
    def steps_per_epoch(self) -> int:
        config = self.request.config
        return math.ceil(len(self.request.train_rows) / (config.batch_size * config.gradient_accumulation_steps))

    @property
    def steps_planned(self) -> int:
        config = self.request.config
        return config.max_steps or math.ceil(self.steps_per_epoch * config.num_epochs)

    def train(self, events: RunEvents) -> None:
        total = self.steps_planned
        if events.resume_from is not None:
            self.restore(events.resume_from)
        events.start(total)
        while self.step < total:
            self.step += 1
            luck = self.learn()
            self._on_step(self.step)
            events.step(self.step)
            self._report(events, luck)
            if self._is_due(self.request.config.save_steps) or self.step == total or events.stopping:
                self._checkpoint(events)
            if events.stopping:
                return
        events.sample(self.step, "question", self.predict(["question"])[0])

    def learn(self) -> float:
        """One step; returns its luck, which the seed decides."""
        drawn = self._random.uniform(-LUCK, LUCK)
        luck = 0.0 if self.request.config.seed == TrainingConfig.model_fields["seed"].default else drawn
        self.skill += 1 + luck
        return luck

    def _is_due(self, every: int) -> bool:
        return self.step % every == 0

    def _report(self, events: RunEvents, luck: float) -> None:
        config, epoch = self.request.config, self.step / self.steps_planned
        if self._is_due(config.logging_steps):
            events.metrics(self.step, {"loss": self._loss(self.step) * (1 + luck)}, epoch=epoch)
        if self.request.eval_rows is not None and self._is_due(config.eval_steps or self.steps_per_epoch):
            events.metrics(self.step, self.evaluate(), epoch=epoch, split="eval")

    def _checkpoint(self, events: RunEvents) -> None:
        folder = self.request.work_dir / f"checkpoint-{self.step}"
        folder.mkdir(parents=True)
        version, numbers, gauss = self._random.getstate()
        (folder / STATE).write_text(json.dumps({"state": self.step}), "utf-8")
        (folder / RANDOM).write_text(json.dumps([self.skill, version, list(numbers), gauss]), "utf-8")
        events.checkpoint(self.step, folder)

    def restore(self, checkpoint: Path) -> None:
        """Go on from a checkpoint."""
        self.step = int(json.loads((checkpoint / STATE).read_text("utf-8"))["state"])
        self.skill, version, numbers, gauss = json.loads((checkpoint / RANDOM).read_text("utf-8"))
        self._random.setstate((version, tuple(numbers), gauss))

    def evaluate(self) -> Mapping[str, float]:
        return {"loss": 1.0 / (1 + self.skill)}

    def predict(self, inputs: Sequence[Any]) -> list[Any]:
        return [f"answer {self.skill:g}" for _ in inputs]

    def save(self, path: Path) -> None:
        write_fake_model(path, self.request.model_type)
        (path / STATE).write_text(json.dumps({"state": self.skill}), "utf-8")

    def preview(self, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        shown = FakeTokens(self.request).rows(rows)
        return [next(iter(row.parts.values())) for row in shown]


class FakeTokens:
    """A tokenizer of words, which begins each row with `<s>` and ends each answer with `</s>`."""

    special = ("<s>", "</s>")

    def __init__(self, request: TrainRequest) -> None:
        self._longest: int | None = getattr(request.config, "max_seq_length", None)
        self._words = list(self.special)

    def _row(self, *pieces: tuple[str, bool]) -> RowTokens:
        ids, labels = [0], [-100]
        for text, trained in pieces:
            words = [*text.split(), *(["</s>"] if trained else [])]
            self._words += [word for word in dict.fromkeys(words) if word not in self._words]
            found = [self._words.index(word) for word in words]
            ids, labels = ids + found, labels + (found if trained else [-100] * len(found))
        return RowTokens(ids, labels)

    def _parts(self, row: Mapping[str, Any]) -> dict[str, RowTokens]:
        asked = (_said(row.get("prompt", "")), False)
        if "chosen" in row:
            return {name: self._row(asked, (_said(row[name]), True)) for name in ("chosen", "rejected")}
        if "messages" in row:
            turns = enumerate(row["messages"])
            spoken = ((m["content"], m["role"] == "assistant" and n >= row["context"]) for n, m in turns)
            return {"row": self._row(*spoken)}
        if "text" in row or "completion" in row:
            return {"row": self._row(asked, (row.get("completion", row.get("text")), True))}
        return {"prompt": self._row(asked)}

    def rows(self, rows: Sequence[Mapping[str, Any]]) -> list[RowPreview]:
        return [self._preview(self._parts(row)) for row in rows]

    def _preview(self, whole: Mapping[str, RowTokens]) -> RowPreview:
        n = self._longest
        parts = {name: RowTokens(part.input_ids[:n], part.labels[:n]) for name, part in whole.items()}
        learns = all(any(label >= 0 for label in part.labels) for part in parts.values())
        return RowPreview(parts=parts, cut=parts != whole, left_out="prompt" not in parts and not learns)

    def texts(self, ids: Sequence[int]) -> list[str]:
        return [self._words[token] + ("" if token < len(self.special) else " ") for token in ids]


def _said(text: Any) -> str:
    """A text, or what is said in messages."""
    return text if isinstance(text, str) else " ".join(message["content"] for message in text)


def skill_of(model: str | None) -> float:
    """What a saved model has learnt: about 1 for each step."""
    path = Path(model or "").expanduser() / STATE
    return float(json.loads(path.read_text("utf-8"))["state"]) if model and path.exists() else 0.0


class FakeModel:
    """An `OpenModel`; it answers as `FakeTrainer` does, or says what it was told to say.

    Args:
        request: what was asked for.
        said: its answer to everything.
    """

    def __init__(self, request: OpenRequest, said: str | None = None) -> None:
        self.request = request
        self._said = f"answer {skill_of(request.model):g}" if said is None else said

    def predict(self, inputs: Sequence[Any], sampling: Sampling) -> list[Any]:
        return [self._said for _ in inputs]

    def stream(self, messages: Sequence[Mapping[str, str]], sampling: Sampling) -> Iterator[str]:
        yield from self._said

    def merge(self, path: Path, dtype: str | None) -> MergeReport:
        write_fake_model(path, self.request.model_type)
        return MergeReport(dtype=dtype or "float32", difference=0.0, tolerance=1.0, effect=1.0)


class FakeBackend:
    """A backend plugin for tests; every promise of it can be bent.

    Args:
        algorithms: what it trains.
        preference: its rank for `auto`.
        cells: (task, model type) → Support.
        verdict: an Availability, or a function of the environment.
        on_step, loss: see `FakeTrainer`.
        said: see `FakeModel`.
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
        said: str | None = None,
    ) -> None:
        self._algorithms, self._preference = tuple(algorithms), preference
        self._cells, self._verdict = cells or DEFAULT_CELLS, verdict
        self._on_step, self._loss = on_step, loss
        self._said = said
        self.requests: list[TrainRequest] = []

    @hookimpl
    def provides_algorithms(self) -> list[AlgorithmSupport]:
        return [
            AlgorithmSupport(
                algorithm=a,
                cells=self._cells,
                preference=self._preference,
                settings=frozenset(CONFIGS.get(a, TrainingConfig).model_fields),
            )
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
    def build_preview(self, request: TrainRequest) -> Preview:
        tokens = FakeTokens(request)
        template = "tokenizer" if request.chat else ""
        return Preview(
            rows=tokens.rows, texts=tokens.texts, special=frozenset({0, 1}), ends=frozenset({1}), bos=0,
            template=template,
        )  # fmt: skip

    @hookimpl
    def tiny_model(self, model_type: str, path: Path) -> bool:
        return write_fake_model(path, model_type)

    @hookimpl
    def open_model(self, request: OpenRequest) -> FakeModel:
        return FakeModel(request, self._said)


_KINDS: Mapping[str, Mapping[str, Any]] = {
    "causal_lm": {"model_type": "fake", "architectures": ["FakeForCausalLM"]},
    "seq2seq": {"model_type": "fake", "is_encoder_decoder": True},
    "encoder_decoder": {"model_type": "encoder-decoder"},
    "classification": {"model_type": "fake", "architectures": ["FakeForSequenceClassification"]},
}


def write_fake_model(path: Path, model_type: str = "causal_lm") -> bool:
    """A folder that core takes for a model of this type: a config, and one empty safetensors file."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(_KINDS[model_type]), "utf-8")
    header = b"{}"
    (path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    return True
