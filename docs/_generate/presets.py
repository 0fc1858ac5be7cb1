"""The algorithms that learn from rewards, side by side: what they set and pin, and how large a rollout is."""

from __future__ import annotations

from typing import Any

from _generate.markdown import code, table
from aligntune_core.algorithms import ALGORITHMS
from aligntune_core.config import CONFIGS, GrpoConfig, RolloutConfig

SHOWN = (
    *("loss_type", "importance_sampling_level", "epsilon", "epsilon_high", "beta", "kl_coef", "scale_rewards"),
    *("mask_truncated_completions", "overlong_cache", "dynamic_sampling_attempts", "num_iterations"),
)
"""The settings in which the presets differ."""


def _presets() -> dict[str, RolloutConfig]:
    """Title → settings as they are when nothing is given."""
    made = {name: cls() for name, cls in CONFIGS.items() if issubclass(cls, RolloutConfig)}
    families = sorted(made.items(), key=lambda pair: not isinstance(pair[1], GrpoConfig))
    return {ALGORITHMS[name].title: config for name, config in families if isinstance(config, RolloutConfig)}


def _value(config: RolloutConfig, name: str) -> str:
    if name in config.pinned:
        return code(str(config.pinned[name]))
    value: Any = getattr(config, name, "-")
    if value is None:
        return f"{config.overlong}" if name == "overlong_cache" else f"{config.epsilon:g}"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _label(name: str) -> str:
    pinned = any(name in config.pinned for config in _presets().values())
    return f"{code(name)}, pinned" if pinned else f"[{code(name)}](../reference/configuration.md#{name})"


def settings() -> str:
    """What each preset sets."""
    presets = _presets()
    rows = [[_label(name), *(_value(config, name) for config in presets.values())] for name in SHOWN]
    return table(["", *presets], rows) + "\n"


def sizes() -> str:
    """What a rollout of each preset is, with one process."""
    presets = _presets()

    def row(title: str, *values: int) -> list[str]:
        return [title, *map(str, values)]

    configs = list(presets.values())
    answers = [config.batch_size * config.generation_steps for config in configs]
    rows = [
        row("`batch_size`", *(config.batch_size for config in configs)),
        row("× forward passes on a rollout", *(config.generation_steps for config in configs)),
        row("= answers", *answers),
        row("/ `num_generations`", *(config.num_generations for config in configs)),
        row("= prompts", *(n // config.num_generations for n, config in zip(answers, configs, strict=True))),
        row("optimiser steps on it", *(config.rollout_steps for config in configs)),
    ]
    return table(["", *presets], rows) + "\n"
