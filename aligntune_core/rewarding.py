"""The rewards of a run: resolved from its settings, with those that plugins bring, and checked against its rows."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from aligntune_core.checkpoint_head import read_head
from aligntune_core.config import RolloutConfig, TrainingConfig
from aligntune_core.data.read import Rows
from aligntune_core.environment import Environment
from aligntune_core.errors import ConfigError
from aligntune_core.plugins import load_extensions
from aligntune_core.rewards.bound import BoundReward
from aligntune_core.rewards.registry import RewardRegistry
from aligntune_core.rewards.resolve import check, check_columns, resolve
from aligntune_core.rewards.values import ROW

log = logging.getLogger("aligntune")

PUNISHMENT = "soft_overlong"


def _is_unknown(entry: Any, registry: RewardRegistry) -> bool:
    """Whether an entry names a reward that is not built in."""
    name = entry.get("name") if isinstance(entry, Mapping) else entry
    return isinstance(name, str) and ":" not in name and registry.find(name) is None


def registry_for(config: RolloutConfig) -> RewardRegistry:
    """The rewards that the settings can name; plugins are loaded only where one of theirs may be meant.

    Raises:
        PluginContractError: a plugin brings a reward that is none, or of a name that is taken.
    """
    registry = RewardRegistry.built_in()
    if not any(_is_unknown(entry, registry) for entry in config.reward_functions):
        return registry
    loaded = load_extensions()
    for failure in loaded.failures:
        log.warning("the plugin '%s' cannot be loaded, nor can its rewards: %s", failure.name, failure.reason)
    for plugin in loaded.good:
        if "provides_rewards" in plugin.hooks:
            registry = registry.adding(plugin.rewards, plugin.entry.origin)
    return registry


def check_rewards(config: TrainingConfig) -> None:
    """What is wrong with the rewards of the settings, without running the user's code.

    Raises:
        ConfigError: one line for each.
    """
    if isinstance(config, RolloutConfig) and config.reward_functions:
        check(config.reward_functions, config.function_weights, registry=registry_for(config))


def fitted(config: TrainingConfig, environment: Environment) -> TrainingConfig:
    """The settings with the sizes of a rollout worked out.

    Raises:
        ConfigError: they do not fit together.
    """
    return config.fitted(environment.world_size) if isinstance(config, RolloutConfig) else config


def check_reward_model(config: TrainingConfig) -> None:
    """Look at the reward model that the settings name.

    Raises:
        ConfigError: it cannot be read, or gives no score.
    """
    if not isinstance(config, RolloutConfig) or not config.reward_model_name:
        return
    name = config.reward_model_name
    try:
        head = read_head(name, None, trust_remote_code=config.trust_remote_code)
    except ConfigError as error:
        raise ConfigError(error.problem, error.remedy, field="reward_model_name", value=name) from error
    remedy = "train one with algorithm: reward, and give its run folder"
    if head.model_type != "classification" or head.labels == 0:
        raise ConfigError("is no reward model: it gives no score", remedy, field="reward_model_name", value=name)
    if head.labels not in (None, 1):
        problem = f"is no reward model: it gives {head.labels} numbers for an answer, not one"
        raise ConfigError(problem, remedy, field="reward_model_name", value=name)


def resolve_rewards(config: TrainingConfig) -> tuple[BoundReward, ...]:
    """The rewards of a run, the punishment of overlong answers among them; none for other algorithms.

    Raises:
        ConfigError: one line for each that cannot be found or called.
    """
    if not isinstance(config, RolloutConfig):
        return ()
    functions: list[Any] = list(config.reward_functions)
    weights = list(config.function_weights)
    if config.overlong:
        sizes = {"max_completion_length": config.max_completion_length, "cache": config.overlong}
        functions.append({"name": PUNISHMENT, **sizes})
        weights.append(1.0)
    return resolve(functions, weights, registry=registry_for(config))


def check_rollouts(
    config: TrainingConfig, rows: Rows, rewards: tuple[BoundReward, ...], environment: Environment
) -> None:
    """Refuse rows that are too few for a rollout, or that lack a column which a reward needs.

    Raises:
        ConfigError: with the numbers, or the columns that there are.
    """
    if not isinstance(config, RolloutConfig):
        return
    config.check_prompts(len(rows.train), environment.world_size)
    for part, what in ((rows.train, "rows"), (rows.eval, "evaluation rows")):
        if part is not None:
            check_columns(rewards, [c for c in part.column_names if c not in ("prompt", ROW)], what)
