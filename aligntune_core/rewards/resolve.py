"""From the settings `reward_functions` and `reward_weights` to rewards that can be called."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from aligntune_core.errors import LONGEST_NAME, ConfigError, Problem, first_line, kind_of, one_line, told
from aligntune_core.rewards.bound import BoundReward, missing_columns
from aligntune_core.rewards.find import FIELD, find, is_address, look, refused
from aligntune_core.rewards.registry import OURS, RewardRegistry
from aligntune_core.rewards.values import ROW, Function, Reward

WEIGHTS = "reward_weights"
_NAME = "name"
T = TypeVar("T")


def _options(entry: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The name and the options of `{name: …, option: …}`."""
    name = entry.get(_NAME)
    if not isinstance(name, str) or not all(isinstance(key, str) for key in entry):
        raise refused(dict(entry), "has no name", "write {name: format, pattern: …}")
    if is_address(name):
        remedy = "bind options in the function itself, with functools.partial say"
        raise refused(name, "only rewards of the registry have options", remedy)
    return name, {key: value for key, value in entry.items() if key != _NAME}


def _registered(name: str, registry: RewardRegistry) -> Reward:
    reward = registry.find(name)
    if reward is None:
        remedy = registry.choices(name)
        if "." in name:
            remedy = f"a function in a module is written {':'.join(name.rsplit('.', 1))}"
        raise refused(name, "no reward has this name", remedy)
    return reward


def _check_options(reward: Reward, options: Mapping[str, Any]) -> None:
    """Whether `make` takes these options, without calling it."""
    try:
        signature = inspect.signature(reward.make)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(**options)
    except TypeError as error:
        has = ", ".join(signature.parameters) or "none"
        problem = f"the options do not fit: {first_line(error)}"
        raise refused(reward.name, problem, f"its options are: {has}") from error


def _made(reward: Reward, options: Mapping[str, Any]) -> Function:
    _check_options(reward, options)
    try:
        function = reward.make(**options)
    except (ConfigError, KeyboardInterrupt):
        raise
    except ValueError as error:
        raise refused(reward.name, first_line(error) or told(error), "change that option") from error
    except BaseException as error:
        problem = f"cannot be made ({reward.origin}): {told(error)}"
        raise refused(reward.name, problem, "check its options, or report it to its authors") from error
    return function


def _shown(name: str, options: Mapping[str, Any]) -> str:
    """A registry reward with its options, as run.json keeps it."""
    given = ", ".join(f"{key}={value!r}" for key, value in options.items())
    return one_line(f"{name}({given})") if given else name


def _own_name(function: Function) -> str:
    """What a Python object is called; a lambda, a partial and an object without a name by what they are."""
    try:
        while hasattr(function, "func"):
            function = function.func
        name = getattr(function, "__name__", None)
    except Exception:  # noqa: BLE001 - an object may answer anything when asked for an attribute
        name = None
    name = name if isinstance(name, str) else type(function).__name__
    return one_line("".join(c if c.isalnum() or c == "_" else "" for c in name), LONGEST_NAME) or "reward"


def _qualified(function: Function) -> str:
    """Where a Python object is written."""
    kind = type(function)
    home, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not isinstance(home, str) or not isinstance(name, str):
        home, name = kind.__module__, kind.__qualname__
    return one_line(f"{home}:{name}", 2 * LONGEST_NAME)


def _bound(name: str, function: Any, source: str, entry: Any, *, portable: bool) -> BoundReward:
    if not callable(function):
        raise refused(entry, f"is {kind_of(function)}, and cannot be called", "name a function")
    try:
        return BoundReward(name=name, function=function, source=source, portable=portable)
    except ValueError as error:
        problem, _, remedy = str(error).partition("; ")
        raise refused(entry, problem, remedy or "give a function") from error


def _resolved(entry: Any, registry: RewardRegistry) -> BoundReward:
    """One entry of `reward_functions`."""
    if callable(entry):
        return _bound(_own_name(entry), entry, _qualified(entry), _qualified(entry), portable=False)
    if isinstance(entry, str) and is_address(entry):
        name = entry.rpartition(":")[2].strip()
        return _bound(name.rpartition(".")[2], find(entry), entry, entry, portable=True)
    if isinstance(entry, str | Mapping):
        name, options = (entry, {}) if isinstance(entry, str) else _options(entry)
        reward = _registered(name, registry)
        function = _made(reward, options)
        return _bound(reward.name, function, _shown(reward.name, options), reward.name, portable=True)
    raise refused(entry, f"is {kind_of(entry)}", "give a function, the name of a reward, FILE.py:name or {name: …}")


def _looked_at(entry: Any, registry: RewardRegistry) -> None:
    """The checks of one entry that run nobody's code but ours."""
    if isinstance(entry, str) and is_address(entry):
        look(entry)
    elif isinstance(entry, str | Mapping) and not callable(entry):
        name, options = (entry, {}) if isinstance(entry, str) else _options(entry)
        reward = _registered(name, registry)
        if reward.origin == OURS:
            _made(reward, options)
        else:
            _check_options(reward, options)
    else:
        _resolved(entry, registry)


def _each(functions: Iterable[Any], do: Callable[[Any], T]) -> tuple[list[T], list[Problem]]:
    """What became of each entry, and all that is wrong with the others."""
    done: list[T] = []
    problems: list[Problem] = []
    for entry in functions:
        try:
            done.append(do(entry))
        except ConfigError as error:
            problems += error.problems
    return done, problems


def _weights(weights: Sequence[float] | None, count: int) -> list[Problem]:
    """What is wrong with the weights; none at all are fine, and mean 1 each."""
    if not weights:
        return []
    found = []
    if len(weights) != count:
        text = f"{len(weights)} weight{'s' * (len(weights) != 1)} for {count} reward{'s' * (count != 1)}"
        found.append(Problem.of(WEIGHTS, text, "give one for each, or leave them out", value=tuple(weights)))
    bad = [w for w in weights if isinstance(w, bool) or not isinstance(w, int | float) or not math.isfinite(w)]
    return found + [Problem.of(WEIGHTS, "is no finite number", "give numbers such as 1.0", value=w) for w in bad]


def _unique(rewards: Sequence[BoundReward], weights: Sequence[float]) -> tuple[BoundReward, ...]:
    """With their weights, and each with a name of its own: the second `f` is `f_2`."""
    named: dict[str, BoundReward] = {}
    for reward, weight in zip(rewards, weights, strict=True):
        name, number = reward.name, 2
        while name in named:
            name, number = f"{reward.name}_{number}", number + 1
        named[name] = replace(reward, name=name, weight=float(weight))
    return tuple(named.values())


def resolve(
    functions: Sequence[Any], weights: Sequence[float] | None = None, *, registry: RewardRegistry | None = None
) -> tuple[BoundReward, ...]:
    """The rewards of a run, in the order of the setting.

    Args:
        functions: Python objects that can be called, names of the registry, `{name: …, option: …}`,
            `module:function`, or `FILE.py:name` with a path from the working directory; the code there is imported.
        weights: one for each; none: 1 each.
        registry: the named rewards (default: ours).

    Raises:
        ConfigError: all that is wrong, one line each, under `reward_functions` or `reward_weights`.
    """
    known = RewardRegistry.built_in() if registry is None else registry
    rewards, problems = _each(functions, lambda entry: _resolved(entry, known))
    problems += _weights(weights, len(functions))
    if problems:
        raise ConfigError(problems)
    return _unique(rewards, weights or [1.0] * len(rewards))


def check(
    functions: Sequence[Any], weights: Sequence[float] | None = None, *, registry: RewardRegistry | None = None
) -> None:
    """What `resolve` would refuse, as far as that can be known without running code that is not ours.

    A file must be there, be Python and define the name; a module's package must be installed; options must fit.

    Raises:
        ConfigError: as `resolve`.
    """
    known = RewardRegistry.built_in() if registry is None else registry
    problems = _each(functions, lambda entry: _looked_at(entry, known))[1] + _weights(weights, len(functions))
    if problems:
        raise ConfigError(problems)


def check_columns(rewards: Iterable[BoundReward], columns: Sequence[str], what: str = "rows") -> None:
    """Refuse rewards that need a column which the rows do not have.

    Args:
        rewards: as `resolve` gives them.
        columns: the columns of the rows, beside the prompt.
        what: the rows, as the error names them.

    Raises:
        ConfigError: it names the columns that are missing, and those that there are.
    """
    there = ", ".join(sorted(c for c in columns if c != ROW))
    problems = []
    for reward in rewards:
        for name in missing_columns(reward, columns):
            remedy = f"the further columns are: {there}; map one with column_mapping: {name}=…"
            remedy = remedy if there else "they have no further columns: add it, or map one with column_mapping"
            problems.append(Problem.of(FIELD, f"needs a column '{name}' in the {what}", remedy, value=reward.name))
    if problems:
        raise ConfigError(problems)
