"""What a plugin is and gives, checked at the border: behind it every value is of the type that it says it is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, get_args

from aligntune_core.algorithms import ALGORITHMS, Algorithm, fold, lookup
from aligntune_core.discovery import is_plain
from aligntune_core.errors import LONGEST_NAME, PluginContractError, one_line, told
from aligntune_core.values import MODEL_TYPES, TASKS, AlgorithmSupport, Availability, Level, Support

if TYPE_CHECKING:
    from aligntune_core.config import TrainingConfig

MOST_CLAIMS = 100
LONGEST_NOTE, LONGEST_REASON, LONGEST_FORMULA = 200, 300, 1000
TAKEN = frozenset(
    {"algorithm", "backend", "config", "model", "train_dataset", "eval_dataset", "dry_run", "quiet", "help"}
)
"""What `get_trainer` and `aligntune train` are given beside settings."""


def _short(value: object) -> str:
    try:
        return repr(value[:LONGEST_NAME] if isinstance(value, str) else value)[: 2 * LONGEST_NAME]
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001 - a value whose repr fails is told by its type
        return type(value).__name__[:LONGEST_NAME]


def check_hooks(plugin: object, hooks: Iterable[str], required: Iterable[str], marked: Callable[[str], Any]) -> None:
    """Refuse what pluggy would accept in silence: a class, a missing hook, an alias, an argument with a default.

    Args:
        plugin: what the entry point names.
        hooks: those that its group has.
        required: those that it must have.
        marked: hook → what `@hookimpl` noted on it, or None.

    Raises:
        PluginContractError: with what is to be changed.
    """
    if inspect.isclass(plugin):
        raise PluginContractError(
            "the entry point names a class", "name an instance or a module: have you forgotten ()?"
        )
    found = 0
    for hook in hooks:
        function = getattr(plugin, hook, None)
        options = marked(hook) if function is not None else None
        if options is None:
            if hook in required:
                raise PluginContractError(f"the hook {hook}() is missing", "define it and mark it with @hookimpl")
        elif options.get("specname") or options.get("wrapper") or options.get("hookwrapper"):
            raise PluginContractError(f"{hook}() uses specname or is a wrapper", "give a plain function of that name")
        else:
            found += 1
            _check_arguments(hook, function)
    if not found:
        raise PluginContractError(f"it has no hook; there are {', '.join(hooks)}", "mark one with @hookimpl")


def _check_arguments(hook: str, function: Any) -> None:
    """An argument with a default gets no value in pluggy 1.6.0, and does in 1.7.0; a keyword-only one never does."""
    if not callable(function):
        raise PluginContractError(f"{hook} is no function", "define it and mark it with @hookimpl")
    for argument in inspect.signature(function).parameters.values():
        if argument.default is not argument.empty or argument.kind is argument.KEYWORD_ONLY:
            problem = f"the argument '{argument.name}' of {hook}() is keyword-only or has a default"
            raise PluginContractError(problem, "make it plain: arguments are given by name")


def _broken_text(value: object, longest: int, *, lines: bool = False) -> bool:
    if not isinstance(value, str) or len(value) > longest:
        return True
    return not (value.replace("\n", "") if lines else value).isprintable()


def _broken_cell(cell: object, support: object) -> str:
    """What is wrong with one cell; empty where nothing is."""
    if not (isinstance(cell, tuple) and len(cell) == 2 and all(isinstance(part, str) for part in cell)):
        return "which is no (task, model type)"
    if cell[0] not in TASKS or cell[1] not in MODEL_TYPES:
        return "which is no task and model type that there is"
    if not isinstance(support, Support) or support.level not in get_args(Level):
        return "which has no level"
    if support.level != "full" and not support.note:
        return f"which is {support.level} and has no note"
    too_long = f"whose note is not one line of {LONGEST_NOTE} characters"
    return too_long if _broken_text(support.note, LONGEST_NOTE) else ""


def _broken_about(about: object, name: str) -> bool:
    if not isinstance(about, Algorithm) or about.name != name:
        return True
    short = (about.title, about.summary, about.paper, about.difference)
    return any(_broken_text(text, LONGEST_NOTE) for text in short) or _broken_text(
        about.formula, LONGEST_FORMULA, lines=True
    )


def _broken_config(claim: AlgorithmSupport) -> str:
    """What is wrong with the class of settings that a plugin brings; empty where nothing is."""
    if claim.config is None:
        return "" if claim.algorithm in ALGORITHMS else "which core does not know, without its config"
    from aligntune_core.config import CONFIGS, TrainingConfig

    if claim.algorithm in CONFIGS:
        return "whose settings core has, with a config of its own"
    if not (isinstance(claim.config, type) and issubclass(claim.config, TrainingConfig)):
        return "whose config is no subclass of TrainingConfig"
    if claim.config.algorithm != claim.algorithm:
        return f"whose config says {_short(claim.config.algorithm)}"
    for name, field in TrainingConfig.model_fields.items():
        if claim.config.model_fields[name].annotation != field.annotation:
            return f"whose config gives '{name}', a setting of core's, another type"
    return _broken_settings(claim.config)


def _broken_settings(config: type[TrainingConfig]) -> str:
    from aligntune_core.config.aliases import BY_ALIAS
    from aligntune_core.config.describe import describe

    try:
        settings = describe(config)
    except Exception as error:  # noqa: BLE001 - an annotation may be anything
        return f"whose config cannot be described ({told(error)})"
    for setting in settings:
        texts = (setting.description, setting.default, setting.source)
        if not is_plain(setting.name) or any(_broken_text(text, LONGEST_FORMULA) for text in texts):
            return f"with the setting {_short(setting.name)}, whose name, default or description is not plain and short"
        if setting.name in TAKEN:
            return f"with the setting '{setting.name}', which `train` or `get_trainer` takes already"
        if setting.name in BY_ALIAS:
            return f"with the setting '{setting.name}', another name of '{BY_ALIAS[setting.name]}'"
    return ""


def _broken_claim(claim: object) -> str:
    """What is wrong with one thing that `provides_algorithms` gave; empty where nothing is."""
    if not isinstance(claim, AlgorithmSupport):
        return f"{type(claim).__name__[:LONGEST_NAME]}, not an AlgorithmSupport"
    name = claim.algorithm
    if not isinstance(name, str) or not is_plain(name):
        return f"an algorithm called {_short(name)}"
    if (known := lookup(name, ALGORITHMS)) not in (None, name):
        return f"'{name}', which is spelt '{known}'"
    if type(claim.preference) is not int:
        return f"'{name}' with a preference that is no whole number"
    if not all(isinstance(setting, str) for setting in claim.settings):
        return f"'{name}' with settings that are no names"
    for cell, support in claim.cells.items():
        if problem := _broken_cell(cell, support):
            return f"'{name}' with the cell {_short(cell)}, {problem}"
    if claim.about is not None and _broken_about(claim.about, name):
        return f"'{name}' with an `about` that is no Algorithm of that name, of plain and short text"
    return f"'{name}', {problem}" if (problem := _broken_config(claim)) else ""


def checked_claims(given: Any) -> Mapping[str, AlgorithmSupport]:
    """What `provides_algorithms` gave, by algorithm; it cannot be changed.

    Raises:
        PluginContractError: it is something else.
    """
    found: dict[str, AlgorithmSupport] = {}
    if inspect.iscoroutine(given):
        given.close()
    if not isinstance(given, Iterable):
        raise PluginContractError(f"provides_algorithms() gave {_short(type(given).__name__)}", "give a list of claims")
    for claim in given:
        if problem := _broken_claim(claim):
            raise PluginContractError(f"provides_algorithms() gave {problem}", "mend the claim")
        if fold(claim.algorithm) in map(fold, found):
            raise PluginContractError(f"provides_algorithms() gave '{claim.algorithm}' twice", "give it once")
        found[claim.algorithm] = claim
        if len(found) > MOST_CLAIMS:
            raise PluginContractError(f"provides_algorithms() gave more than {MOST_CLAIMS}", "give fewer")
    return MappingProxyType(found)


def checked_verdict(verdict: object) -> Availability:
    """What `is_available` gave, its texts cut to one line.

    Raises:
        PluginContractError: it is no Availability, or says no and not why.
    """
    if not isinstance(verdict, Availability):
        problem = f"is_available() gave {type(verdict).__name__[:LONGEST_NAME]}"
        raise PluginContractError(problem, "give an Availability")
    if type(verdict.ok) is not bool:
        raise PluginContractError("is_available() gave an `ok` that is neither true nor false", "give a bool")
    if verdict.ok and verdict.only_asked is not True:
        return Availability(True)
    if verdict.ok:
        reason = verdict.reason if isinstance(verdict.reason, str) else ""
        return Availability(True, one_line(reason, LONGEST_REASON) or "it says so", only_asked=True)
    if not (verdict.reason and verdict.remedy and isinstance(verdict.reason, str) and isinstance(verdict.remedy, str)):
        raise PluginContractError("is_available() said no without a reason and a remedy", "give both")
    return Availability(False, one_line(verdict.reason, LONGEST_REASON), one_line(verdict.remedy, LONGEST_REASON))
