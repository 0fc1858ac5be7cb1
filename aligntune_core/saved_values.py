"""The values that cross the seam when a saved model is used: what opens it, how it answers, what a merge came to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from aligntune_core.config import TrainingConfig
    from aligntune_core.environment import Environment


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRequest:
    """A saved model that is to be used, not trained.

    Attributes:
        model: a folder with a model or an adapter, or a hub name; its files are checked.
        algorithm, task, row_format: of the run that saved it; each empty for a model that no run of ours saved.
        model_type: one of `MODEL_TYPES`.
        config: the run's settings that say how a model is loaded and asked; others have their defaults. The chat
            template is the saved tokenizer's.
        environment: what this machine is.
    """

    model: str
    model_type: str
    config: TrainingConfig
    environment: Environment
    algorithm: str = ""
    task: str = ""
    row_format: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How an answer is drawn; the defaults are those of `BackendTrainer.predict`.

    Attributes:
        max_tokens: tokens of an answer at most; None: as many as `predict` gives.
        temperature: 0: greedy.
        top_p: draw from the likeliest tokens that together have this probability.
        seed: of the draws; None: another answer each time.
    """

    max_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeReport:
    """A model that was written by `merge`, and how it compares with what it was made of.

    Attributes:
        dtype: of its weights.
        difference: the largest between a logit of the written model and of the model with its adapter.
        tolerance: what rounding to `dtype` explains; `difference` is not above it.
        effect: the largest difference that the adapter makes; 0 for a model without one.
        note: what else a reader must know, such as that the base was dequantised.
    """

    dtype: str
    difference: float
    tolerance: float
    effect: float
    note: str = ""


@runtime_checkable
class OpenModel(Protocol):
    """What `open_model` gives back. It may also have `stream`, `merge` and `close()`.

    `stream(messages, sampling)` yields the answer to a conversation, a list of {role, content}, in pieces of text.
    `merge(path, dtype)` writes a full model, the adapter merged into its base, into the folder `path`, which does not
    exist yet, and gives a `MergeReport`; it raises if the written model computes something else. `dtype` is float32,
    bfloat16 or float16, or None: as the base is stored.
    """

    def predict(self, inputs: Sequence[Any], sampling: Sampling) -> list[Any]:
        """As `BackendTrainer.predict`, with `Sampling()` the same answers; a model that draws none refuses others."""
