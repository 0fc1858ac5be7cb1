"""The frozen values that cross the seam between core and a backend, and the two protocols on its sides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from aligntune_core.algorithms import Algorithm
    from aligntune_core.config import TrainingConfig
    from aligntune_core.environment import Environment
    from aligntune_core.rewards import BoundReward

Level = Literal["full", "limited", "no"]

TASKS = (
    "instruction_following",
    "supervised_fine_tuning",
    "text_generation",
    "chat_completion",
    "text_classification",
    "token_classification",
)
MODEL_TYPES = ("causal_lm", "seq2seq", "encoder_decoder", "classification")


@dataclass(frozen=True, slots=True)
class Support:
    """How well a cell is supported. `limited` and `no` need a note; it is shown to the user as it stands."""

    level: Level
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlgorithmSupport:
    """What a backend says of one algorithm.

    Attributes:
        algorithm: its canonical name; a plugin may bring one that core does not know.
        cells: (task, model type) → Support; a cell that is absent is not supported.
        preference: `auto` tries the higher first, after the level (TRL 10, Unsloth 50).
        settings: names of the settings it honours, beside those that core honours for every backend
            (`aligntune_core.config.CORE_SETTINGS`); any other that the user gives is refused.
        config: the pydantic class of its settings, only where core has none for the algorithm.
        about: its title, source and formula, for an algorithm that core does not know.
    """

    algorithm: str
    cells: Mapping[tuple[str, str], Support]
    preference: int = 0
    settings: frozenset[str] = frozenset()
    config: type[TrainingConfig] | None = None
    about: Algorithm | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "cells", MappingProxyType(dict(self.cells)))
        if isinstance(self.settings, str):
            raise TypeError("settings is a text; give a set of names")
        object.__setattr__(self, "settings", frozenset(self.settings))


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a backend can run here. Without `ok`, `reason` and `remedy` are both required.

    Attributes:
        only_asked: it can run, but `auto` is not to take it, for this `reason`.
    """

    ok: bool
    reason: str = ""
    remedy: str = ""
    only_asked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """Which process a backend trains in.

    Attributes:
        own_process: in a worker that it has to itself, unless the user sets `isolation: none`.
        preload: modules that a worker imports at once, in this order, while rows are read.
        proof: modules that can only be imported where this backend can train; `aligntune diagnose --deep` tries it.
        environ: variables that a worker gets beside those that this process began with.
    """

    own_process: bool = False
    preload: tuple[str, ...] = ()
    proof: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Labels:
    """What rows are labelled with.

    Attributes:
        problem: one label a text (`single`), any number of them (`multi`), a number (`regression`), or one for each
            word (`tokens`).
        names: of the labels, by their numbers; empty for regression.
    """

    problem: Literal["single", "multi", "regression", "tokens"]
    names: tuple[str, ...] = ()

    @property
    def outputs(self) -> int:
        """How many numbers a model gives for a text or a word."""
        return max(len(self.names), 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRequest:
    """All that a backend needs to build a trainer; every field is already checked.

    Attributes:
        algorithm, task, model_type: canonical names.
        config: the validated settings (frozen).
        environment: what this machine is.
        model: the user's open model, or None where `config.model_name` says what to load.
        train_rows, eval_rows: `datasets.Dataset` of one row format, or None for `eval_rows`; with `config.streaming`,
            `train_rows` is an iterable, whose `endless()` gives rows to train, the same ones each time.
        row_format: `text`: the column text. `prompt_completion`: prompt and completion, joined as they stand; the
            completion is trained. `messages`: messages, and context, the number of leading messages that are never
            trained; a `system_prompt` is among them already; and, where any row has some, tools: JSON schemas, or None.
            `preference`, `preference_messages`: prompt, chosen and rejected, three texts or three lists of messages.
            `prompt`, `prompt_messages`: prompt, what rewards are given, and aligntune_row, the row's number.
            `labelled`: text and label, the number of a label, a list of them, or a value. `tagged`: tokens, and labels,
            the number of a label for each.
        labels: what the numbers of `labelled` and `tagged` rows mean.
        rewards: what scores an answer, for algorithms that learn from rewards; a reward model is
            `config.reward_model_name`, which the backend loads.
        work_dir: where checkpoints are written before core takes them; exists only while training.
    """

    algorithm: str
    task: str
    model_type: str
    config: TrainingConfig
    environment: Environment
    model: Any = None
    train_rows: Any = None
    eval_rows: Any = None
    row_format: str = ""
    labels: Labels | None = None
    rewards: tuple[BoundReward, ...] = ()
    work_dir: Path = Path()

    @property
    def chat(self) -> bool:
        """Whether the rows are conversations, which the chat template writes."""
        return self.row_format.endswith("messages")


class RunEvents(Protocol):
    """What core hears from a training loop. A backend calls these; core gives the object."""

    resume_from: Path | None
    """The checkpoint folder to go on from, checked by core, or None."""

    @property
    def stopping(self) -> bool:
        """True once the user asked to stop: save a checkpoint after this step and return."""

    def start(self, steps_planned: int) -> None:
        """The loop begins; call it once, after everything is loaded."""

    def step(self, step: int) -> None:
        """An optimiser step has ended; the first is 1."""

    def metrics(self, step: int, values: Mapping[str, float], *, epoch: float, split: str = "train") -> None:
        """Numbers of a logging window (`split` train) or of an evaluation (`split` eval)."""

    def checkpoint(self, step: int, folder: Path) -> None:
        """A complete checkpoint lies in `folder`; core verifies, moves and rotates it.

        Raises:
            StorageError: it could not be kept.
        """

    def sample(self, step: int, prompt: str, completion: str) -> None:
        """A sample generation, for the report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """What a callback is told of the run that begins.

    Attributes:
        run_dir: the run folder; its name is the run's id.
        algorithm, task, model_type, backend: canonical names.
        config: the validated settings (frozen).
    """

    run_dir: Path
    algorithm: str
    task: str
    model_type: str
    backend: str
    config: TrainingConfig


class Callback:
    """Something that follows a run: a progress bar, a tracker. Override what you need; each does nothing here.

    They are called in the process of rank 0 only, in the order of the training loop.
    """

    def start(self, first: int, steps_planned: int) -> None:
        """The loop begins after step `first` (0, or where a run is resumed)."""

    def step(self, step: int) -> None:
        """An optimiser step has ended; the first is 1."""

    def row(self, row: Mapping[str, Any]) -> None:
        """A row was written to `metrics.jsonl`: step, epoch, time, split, and the numbers."""

    def stop(self) -> None:
        """The loop has ended, well or not; the model is not saved yet."""

    def end(self, status: str) -> None:
        """The run is over: `status` is finished, failed or interrupted."""


@runtime_checkable
class BackendTrainer(Protocol):
    """What `build_trainer` gives back. It may also have `close()`."""

    @property
    def resolved(self) -> Mapping[str, Any]:
        """The library's own arguments, read back after construction."""

    @property
    def native(self) -> Any:
        """The library's trainer."""

    def train(self, events: RunEvents) -> None:
        """Run the loop to its end, or until `events.stopping`."""

    def evaluate(self) -> Mapping[str, float]:
        """Numbers over the evaluation rows: `loss`, the mean over tokens or pairs; `reward`, the mean over answers."""

    def predict(self, inputs: Sequence[Any]) -> list[Any]:
        """An answer for each input, in their order; an input is a question as text, or a list of messages.

        Where the rows are messages, a question is one of a user, after the `system_prompt` of the settings.
        """

    def save(self, path: Path) -> None:
        """Write the model so that it loads again; raise if it does not."""

    def preview(self, rows: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Each row as the model sees it: an object with `input_ids` and `labels`, -100 where nothing is trained."""


@dataclass(frozen=True, slots=True)
class RowTokens:
    """What the model reads in one go; both have the same length.

    Attributes:
        input_ids: the tokens.
        labels: what is learnt at each of them, -100 where nothing is.
    """

    input_ids: Sequence[int]
    labels: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RowPreview:
    """One row as the model sees it.

    Attributes:
        parts: what is read of it, cut as in training, by name: `row`; of a preference `chosen` and `rejected`, either
            with the prompt before it; `prompt`, where the model answers itself.
        label: what is learnt that is no token: of the row as a whole, or of its words; `labels` of a part say then only
            where something is learnt.
        cut: something was cut off.
        left_out: the run trains without it.
    """

    parts: Mapping[str, RowTokens]
    label: str = ""
    cut: bool = False
    left_out: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What `build_preview` gives: rows as the model sees them, by the tokenizer alone.

    Attributes:
        rows: rows of the request's format → one `RowPreview` for each.
        texts: tokens in a row → the text of each; empty where a character ends only with a later token.
        special: tokens that are no text.
        ends: tokens that end a sequence, or a turn of a conversation.
        bos: the token that begins a sequence, or None.
        longest: tokens that are read in one go at most, where that is less than `max_seq_length`.
        template: where the chat template is from: `tokenizer`, `chat_template`, or `plain` for a format of the
            backend's own; empty where rows are no conversations.
    """

    rows: Callable[[Sequence[Mapping[str, Any]]], list[RowPreview]]
    texts: Callable[[Sequence[int]], list[str]]
    special: frozenset[int] = frozenset()
    ends: frozenset[int] = frozenset()
    bos: int | None = None
    longest: int | None = None
    template: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """How a run ended.

    Attributes:
        steps: optimiser steps done.
        epochs: passes over the data, as a fraction.
        final_loss: mean of the last logging window; None where it means nothing: for a policy that learns from rewards.
        metrics: the last row of `metrics.jsonl`.
        model_path: the saved model.
        run_dir: the run folder.
        seconds: the loop alone, without loading and saving the model.
    """

    steps: int
    epochs: float
    final_loss: float | None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    model_path: Path | None = None
    run_dir: Path | None = None
    seconds: float = 0.0
