"""What a model with a head for labels is made of, found out without its weights."""

from __future__ import annotations

import copy
from typing import Any

import torch

POOLER = ".pooler."
"""Encoders that were trained on masked words come without it; it is a part of the head then."""


class Skeleton:
    """A kind of model without weights.

    Args:
        auto: transformers' class for its kind.
        config: the model's.
        outputs: for how many labels.
        trust_remote_code: whether code of the checkpoint may run.
    """

    def __init__(self, auto: Any, config: Any, outputs: int, *, trust_remote_code: bool) -> None:
        self._auto, self._config, self._outputs, self._trust = auto, config, outputs, trust_remote_code
        self._model = self._built(outputs)

    def _built(self, outputs: int) -> Any:
        config = copy.deepcopy(self._config)
        config.num_labels = outputs
        with torch.device("meta"):
            return self._auto.from_config(config, trust_remote_code=self._trust)

    def left_whole(self) -> list[str]:
        """The paths of the modules that are trained whole, or may be: the head, and a pooler."""
        poolers = {path for path, _ in self._model.named_modules() if f".{path}.".endswith(POOLER)}
        return sorted(poolers | head_modules(self._model))

    def by_label(self) -> set[str]:
        """The weights that have a row for each label."""
        more = dict(self._built(self._outputs + 1).named_parameters())
        return {key for key, weight in self._model.named_parameters() if weight.shape != more[key].shape}


def head_modules(model: Any) -> set[str]:
    """The modules beside the backbone that have weights."""
    beside = {name: module for name, module in model.named_children() if name != model.base_model_prefix}
    return {name for name, module in beside.items() if any(True for _ in module.parameters())}


def make_new(model: Any, keys: set[str]) -> None:
    """Draw weights anew, as the library draws those that are in no file."""
    for path in sorted({key.rpartition(".")[0] for key in keys}):
        module = model.get_submodule(path)
        for found in (module, *module.parameters(recurse=False)):
            found._is_hf_initialized = False  # the library's mark, without which it draws
        with torch.no_grad():
            model._init_weights(module)  # the library has no public door to this
