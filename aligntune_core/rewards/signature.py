"""Which arguments a reward function takes: TRL's batch signature, or one row at a time."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aligntune_core.rewards.values import Function

BATCH = ("prompts", "completions", "completion_ids")
BY_ROW = ("prompt", "completion", "completion_ids")
EXTRA = ("trainer_state", "log_metric", "log_extra")
"""What a trainer may offer beside; each is passed to a function that has it, where the trainer has it."""
SIGNATURES = "write f(prompts, completions, **columns) for a batch, or f(prompt, completion, **columns) for one row"
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True)
class Form:
    """How a function is called.

    Attributes:
        by_row: once for each row, instead of once for a batch.
        names: the parameters that can be given.
        required: those of them that must be.
        anything: it has **kwargs, and so is given all there is.
        bound: what a partial has bound already; a column of the same name does not undo it.
    """

    by_row: bool
    names: frozenset[str]
    required: frozenset[str]
    anything: bool
    bound: frozenset[str] = frozenset()

    @property
    def columns(self) -> frozenset[str]:
        """The columns of the rows that it cannot do without."""
        return self.required - {*(BY_ROW if self.by_row else BATCH), *EXTRA}

    def takes(self, name: str) -> bool:
        """Whether this argument is passed, if there is one."""
        return name in self.names or (self.anything and name not in self.bound)

    def arguments(self, offered: Mapping[str, Any]) -> dict[str, Any]:
        """What of the offered is passed."""
        return {name: value for name, value in offered.items() if self.takes(name)}


def _bound_already(function: Function) -> set[str]:
    """The keywords that a partial has."""
    bound: set[str] = set()
    while isinstance(function, functools.partial):
        bound |= set(function.keywords)
        function = function.func
    return bound


def _refusal(function: Function) -> str:
    """Why something that can be called is no function that scores; empty where it may be one."""
    if isinstance(function, type):
        return "is a class; give an object of it"
    if any((c.__module__ or "").startswith("torch.nn.") for c in type(function).__mro__):
        return "is a model; name it in reward_model_name"
    return ""


def form_of(function: Function) -> Form:
    """Read a function's signature, without calling it.

    A parameter `completion` means that it scores one row, `completions` or **kwargs a batch. An attribute
    `needs_columns` may name further columns that it cannot do without, where **kwargs hides them.

    Raises:
        ValueError: it fits neither way; the text says both.
    """
    if refusal := _refusal(function):
        raise ValueError(refusal)
    try:
        parameters = inspect.signature(function).parameters.values()
    except Exception as error:
        raise ValueError(f"has no signature that can be read; {SIGNATURES}") from error
    bound = _bound_already(function)
    named = [p for p in parameters if p.kind in _NAMED and p.name not in bound]
    names = {p.name for p in named}
    anything = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    if {"completion", "completions"} <= names:
        raise ValueError(f"takes completion and completions; {SIGNATURES}")
    if not ({"completion", "completions"} & names or anything):
        raise ValueError(f"takes neither completions nor completion; {SIGNATURES}")
    if any(p.kind is inspect.Parameter.POSITIONAL_ONLY and p.default is p.empty for p in parameters):
        raise ValueError(f"has a parameter that cannot be given by name; {SIGNATURES}")
    needs = getattr(function, "needs_columns", ())
    required = {p.name for p in named if p.default is p.empty} | {n for n in needs if isinstance(n, str)}
    return Form("completion" in names, frozenset(names), frozenset(required), anything, frozenset(bound))
