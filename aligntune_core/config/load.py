"""From keywords, a file and defaults to one validated config: all bad fields at once, each with its origin."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from aligntune_core.algorithms import nearest
from aligntune_core.config.aliases import BY_ALIAS
from aligntune_core.config.catalogue import CONFIGS
from aligntune_core.config.settings import REQUIRED, TrainingConfig
from aligntune_core.config.yaml_file import read_settings
from aligntune_core.errors import ConfigError, Problem

SELECTORS = ("algorithm", "backend")
"""Keys of a file that choose the config class and the backend; they are no settings."""
COUNTERPARTS = {
    "beta": "kl_coef",
    "kl_coef": "beta",
    "max_seq_length": "max_completion_length",
    "max_completion_length": "max_seq_length",
}
"""A setting of some algorithms → what is like it in others."""


@dataclass(slots=True)
class Layer:
    """Settings from one place; `lines` and `name` say where, for the error text."""

    settings: dict[str, Any]
    name: str = ""
    lines: Mapping[str, int] = field(default_factory=dict)

    def origin(self, key: str) -> str:
        if not self.name:
            return ""
        return f" ({self.name}:{self.lines[key]})" if key in self.lines else f" ({self.name})"


def file_layer(config: str | Path | Mapping[str, Any] | None) -> Layer:
    """The layer of a `config` argument: a path, a mapping or nothing.

    Raises:
        ConfigError: it is something else, or the file cannot be read.
    """
    if config is None:
        return Layer({})
    if isinstance(config, Mapping):
        return Layer({str(key): value for key, value in config.items()})
    if isinstance(config, str | Path):
        path = Path(config)
        settings, lines = read_settings(path)
        return Layer(settings, path.name, lines)
    remedy = "give a path or a mapping"
    raise ConfigError(f"is a {type(config).__name__}", remedy, field="config")


def _canonical(layer: Layer, cls: type[TrainingConfig], problems: list[Problem]) -> dict[str, tuple[Any, str]]:
    """Name → (value, origin) with aliases resolved; unknown names and disagreeing aliases become problems."""
    known: Collection[str] = cls.model_fields
    found: dict[str, tuple[Any, str]] = {}
    for key, value in layer.settings.items():
        name = key if key in known else BY_ALIAS.get(key, "")
        if key in cls.pinned:
            text = f"{cls.algorithm} fixes it to '{cls.pinned[key]}'{layer.origin(key)}"
            problems.append(Problem.of(key, text, "leave it out, or train another algorithm", value=value))
        elif name not in known:
            problems.append(_unknown(key, value, cls, layer.origin(key)))
        elif name in found and found[name][0] != value:
            problems.append(Problem.of(name, f"is also given as '{key}', with another value", "keep one", value=value))
        else:
            found[name] = (value, layer.origin(key))
    return found


def _unknown(key: str, value: Any, cls: type[TrainingConfig], origin: str) -> Problem:
    """A name that this algorithm has no setting of: one of other algorithms' settings, or nobody's."""
    name = BY_ALIAS.get(key, key)
    if owners := [algorithm for algorithm, other in CONFIGS.items() if name in other.model_fields]:
        own = COUNTERPARTS.get(name)
        remedy = f"set {own}" if own in cls.model_fields else f"leave it out; it belongs to {', '.join(owners)}"
        return Problem.of(key, f"{cls.algorithm or 'this algorithm'} has no such setting{origin}", remedy, value=value)
    known = cls.model_fields
    guess = nearest(key, [*known, *(alias for alias, name in BY_ALIAS.items() if name in known)])
    remedy = f"did you mean '{guess}'?" if guess else "see 'aligntune train --help' for all settings"
    shown = key[:60] if key.isprintable() and key.strip() else repr(key[:60])
    return Problem.of(shown, f"no setting has this name{origin}", remedy)


_WORDS = {
    "int_parsing": "must be a whole number",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be finite",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "dict_type": "must be a mapping",
    "tuple_type": "must be a list",
    "too_short": "must not be empty",
}


def _problems(error: ValidationError, cls: type[TrainingConfig], origins: Mapping[str, str]) -> list[Problem]:
    """One problem a field: of a union's branches, the first that is not about the type alone."""
    by_field: dict[str, Any] = {}
    for detail in error.errors(include_url=False):
        name = str(detail["loc"][0])
        if name not in by_field or by_field[name]["type"] in ("literal_error", "none_required"):
            by_field[name] = detail
    found = []
    for name, detail in by_field.items():
        words = _WORDS.get(detail["type"])
        limits = {key: f"{v:g}" if isinstance(v, float) else v for key, v in detail.get("ctx", {}).items()}
        text = words.format(**limits) if words else detail["msg"]
        remedy = detail.get("ctx", {}).get("remedy") or _remedy(cls, name)
        found.append(Problem.of(name, text + origins.get(name, ""), remedy, value=detail["input"]))
    return found


def _remedy(cls: type[TrainingConfig], name: str) -> str:
    if name in REQUIRED:
        return REQUIRED[name]
    from aligntune_core.config.describe import default_text  # only an error needs it

    default = default_text(cls, name)
    return f"the default is {default}" if default not in ("", "none") else "change it, or leave it out"


def _at_odds(config: TrainingConfig) -> list[Problem]:
    """Settings that are each fine, but not together. What would have no effect is refused, not ignored."""
    given = config.model_fields_set
    found = []

    def clash(name: str, text: str, remedy: str) -> None:
        found.append(Problem.of(name, text, remedy, value=getattr(config, name)))

    if config.load_in_4bit and config.load_in_8bit:
        clash("load_in_8bit", "cannot be combined with load_in_4bit", "keep one")
    if config.use_peft is False and (config.load_in_4bit or config.load_in_8bit):
        clash("use_peft", "a quantised model can only be trained with an adapter", "set use_peft: true or leave it out")
    if config.max_steps is not None and "num_epochs" in given:
        clash("num_epochs", "has no effect beside max_steps", "give one of the two")
    if config.eval_dataset_name and config.eval_fraction:
        clash("eval_fraction", "cannot be combined with eval_dataset_name", "keep one")
    found += _weights(config)
    if config.resume and config.overwrite:
        clash("overwrite", "cannot be combined with resume", "keep one")
    for tracker in config.library_trackers:
        if find_spec(tracker) is None:
            clash("report_to", f"{tracker} is not installed", f"pip install {tracker}, or report_to: none")
    return found + config.coupled()


def _weights(config: TrainingConfig) -> list[Problem]:
    """What is wrong with `dataset_weights`: there must be one for each of several data sets."""
    weights, sets = config.dataset_weights, len(config.dataset_names)
    if not weights or sets == len(weights) > 1:
        return []
    text, remedy = f"there are {sets} data sets for {len(weights)} weights", "give one for each"
    if sets < 2:
        text, remedy = "has no effect without several data sets", "leave it out, or name them in dataset_name"
    return [Problem.of("dataset_weights", text, remedy, value=weights)]


def check_effects(config: TrainingConfig, *, has_eval: bool, has_adapter: bool = False) -> None:
    """Refuse settings that would have no effect, once the checkpoint and the rows are known.

    Args:
        config: settled settings.
        has_eval: there are evaluation rows.
        has_adapter: the checkpoint is an adapter, which has its rank and its layers.

    Raises:
        ConfigError: one line for each.
    """
    given, found = config.model_fields_set, []
    if not config.use_peft or has_adapter:
        text, remedy = "has no effect without an adapter", "set use_peft: true"
        if has_adapter:
            text, remedy = "has no effect on an adapter that there is already", "leave it out"
        useless = sorted(name for name in given if name.startswith("lora_"))
        found += [Problem.of(name, text, remedy, value=getattr(config, name)) for name in useless]
    if not has_eval:
        text, remedy = "has no effect without evaluation rows", "set eval_fraction or eval_dataset_name"
        useless = sorted(given & {"eval_steps", "eval_batch_size"})
        found += [Problem.of(name, text, remedy, value=getattr(config, name)) for name in useless]
    if found:
        raise ConfigError(found)


def build_config(
    cls: type[TrainingConfig], layers: list[Layer], *, honoured: frozenset[str] | None = None
) -> TrainingConfig:
    """Validate the layers, the later winning over the earlier, against one algorithm's class.

    Args:
        cls: the algorithm's config class.
        layers: weakest first: file, then keywords.
        honoured: the settings that the chosen backend honours; any other that is given is refused.

    Raises:
        ConfigError: every bad field, one line each.
    """
    problems: list[Problem] = []
    merged: dict[str, tuple[Any, str]] = {}
    for layer in layers:
        kept = {key: value for key, value in layer.settings.items() if key not in SELECTORS}
        merged.update(_canonical(Layer(kept, layer.name, layer.lines), cls, problems))
    merged = {name: pair for name, pair in merged.items() if pair[0] is not None}
    if honoured is not None:
        text = "the chosen backend has no such setting"
        refused = sorted(set(merged) - honoured)
        problems += [Problem.of(name, text, "leave it out", value=merged[name][0]) for name in refused]
    try:
        config = cls.model_validate({name: value for name, (value, _) in merged.items()})
    except ValidationError as error:
        problems += _problems(error, cls, {name: origin for name, (_, origin) in merged.items()})
        raise ConfigError(problems) from None
    problems += _at_odds(config)
    if problems:
        raise ConfigError(problems)
    return config
