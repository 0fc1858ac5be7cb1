"""Finding, filtering, loading and checking backend plugins; beside the hook markers the only module that knows pluggy.

One bad plugin never harms the others: whatever happens while one loads is kept as a `LoadFailure`. Merely
installed, it is one warning; asked for by name, it is the error.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn, get_args

import pluggy

from aligntune_core.environment import Environment
from aligntune_core.errors import AlignTuneError, PluginContractError, PluginLoadError
from aligntune_core.hookspecs import GROUP, PROJECT, REQUIRED, BackendSpecs
from aligntune_core.values import AlgorithmSupport, Availability, BackendTrainer, Level, Support, TrainRequest

log = logging.getLogger("aligntune")

_REQUIREMENT = re.compile(rf"{PROJECT}(?![\w.-])\s*(?:\[[^\]]*\])?\s*\(?([^;)]*)")
"""A requirement on us and its version part; `packaging.requirements` would read it too, in 8 ms of every command."""
_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_HOOKS = (*REQUIRED, "tiny_model")


@dataclass(frozen=True, slots=True)
class LoadFailure:
    """Why a plugin is not usable: in which phase, with which error."""

    name: str
    distribution: str
    version: str
    entry_point: str
    phase: str
    error: BaseException

    @property
    def reason(self) -> str:
        return f"{type(self.error).__name__}: {self.error}"

    def raise_(self) -> NoReturn:
        """Raise for a user who asked for this plugin by name."""
        if isinstance(self.error, AlignTuneError):
            raise self.error
        where = f"{self.distribution} {self.version}, while it was {self.phase}"
        raise PluginLoadError(
            f"this plugin cannot be loaded ({where}): {self.reason}",
            "see 'aligntune plugins' for the details",
            field="backend",
            value=self.name,
        ) from self.error


class Backend:
    """One loaded backend with a typed door for each hook. Calls go through pluggy, so wrappers are kept."""

    def __init__(self, manager: pluggy.PluginManager, name: str, entry: metadata.EntryPoint) -> None:
        self.name = name
        self.distribution, self.version = _origin(entry)
        self.entry_point = entry.value
        self._manager = manager
        self._plugin = manager.get_plugin(name)

    def _call(self, hook: str, **arguments: Any) -> Any:
        plugins = self._manager.list_name_plugin()
        others = [p for n, p in plugins if n != self.name and _is_backend(p, self._manager)]
        caller = self._manager.subset_hook_caller(hook, remove_plugins=others)
        try:
            with contextlib.redirect_stdout(sys.stderr) if hook != "build_trainer" else contextlib.nullcontext():
                return caller(**arguments)
        except BaseException as error:
            error.add_note(f"in {hook}() of the backend plugin '{self.name}' ({self.distribution} {self.version})")
            raise

    def _broke(self, problem: str) -> PluginContractError:
        return PluginContractError(
            f"{problem} ({self.distribution} {self.version})",
            f"upgrade {self.distribution} or report it to its authors",
            field="backend",
            value=self.name,
        )

    @cached_property
    def algorithms(self) -> Mapping[str, AlgorithmSupport]:
        """What it trains, by canonical name.

        Raises:
            PluginContractError: the hook gave something else.
        """
        found: dict[str, AlgorithmSupport] = {}
        for support in self._call("provides_algorithms") or ():
            if problem := _broken_claim(support):
                raise self._broke(f"provides_algorithms() gave {problem}")
            if support.algorithm in found:
                raise self._broke(f"provides_algorithms() gave '{support.algorithm}' twice")
            found[support.algorithm] = support
        return found

    def is_available(self, environment: Environment, request: TrainRequest | None = None) -> Availability:
        """Its verdict; a hook that raises or breaks its promise means: not available, for that reason."""
        try:
            verdict = self._call("is_available", environment=environment, request=request)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, SystemExit too
            return Availability(False, f"is_available() raised {type(error).__name__}: {error}", self._report)
        if not isinstance(verdict, Availability):
            return Availability(False, f"is_available() gave {type(verdict).__name__}", self._report)
        if not verdict.ok and not (verdict.reason and verdict.remedy):
            return Availability(False, verdict.reason or "it gave no reason", verdict.remedy or self._report)
        return verdict

    @property
    def _report(self) -> str:
        return f"report it to the authors of {self.distribution}"

    def build_trainer(self, request: TrainRequest) -> BackendTrainer:
        """A ready trainer.

        Raises:
            PluginContractError: the object lacks a method of `BackendTrainer`.
        """
        try:
            trainer = self._call("build_trainer", request=request)
        except SystemExit as error:
            raise self._broke(f"build_trainer() ended the process with {error}") from error
        if not isinstance(trainer, BackendTrainer):
            raise self._broke(f"build_trainer() gave {type(trainer).__name__}, which is no BackendTrainer")
        return trainer

    def tiny_model(self, model_type: str, path: Path) -> bool:
        """Write a tiny model to `path`; False where the backend has none."""
        return bool(self._call("tiny_model", model_type=model_type, path=path))

    @property
    def hooks(self) -> list[str]:
        return [hook for hook in _HOOKS if callable(getattr(self._plugin, hook, None))]


class BackendRegistry:
    """The usable backends by name, and what went wrong with the others. An ordinary object: tests build their own."""

    def __init__(self, backends: Iterable[Backend] = (), failures: Iterable[LoadFailure] = ()) -> None:
        self.backends = {b.name: b for b in sorted(backends, key=lambda b: b.name)}
        self.failures = {f.name: f for f in sorted(failures, key=lambda f: f.name)}

    def __iter__(self) -> Iterator[Backend]:
        return iter(self.backends.values())

    def __contains__(self, name: object) -> bool:
        return name in self.backends

    @property
    def extra_algorithms(self) -> frozenset[str]:
        """Names of all algorithms that the backends train."""
        return frozenset(name for backend in self for name in backend.algorithms)


def _origin(entry: metadata.EntryPoint) -> tuple[str, str]:
    distribution = entry.dist
    return (distribution.name, distribution.version) if distribution else ("unknown", "unknown")


def _is_backend(plugin: object, manager: pluggy.PluginManager) -> bool:
    """Whether it answers a hook itself; one that wraps the hooks of others stays in every call."""
    marks = [manager.parse_hookimpl_opts(plugin, hook) for hook in REQUIRED if hasattr(plugin, hook)]
    return any(mark and not (mark.get("wrapper") or mark.get("hookwrapper")) for mark in marks)


def _names(variable: str, environ: Mapping[str, str]) -> frozenset[str] | None:
    """The comma-separated names in an environment variable; None where it is not set."""
    raw = environ.get(variable)
    return None if raw is None else frozenset(part.strip() for part in raw.split(",") if part.strip())


def _allowed(name: str, environ: Mapping[str, str]) -> bool:
    allow = _names("ALIGNTUNE_PLUGINS", environ)
    deny = _names("ALIGNTUNE_DISABLE_PLUGINS", environ) or frozenset()
    return name not in deny and (allow is None or name in allow)


def _broken_claim(claim: object) -> str:
    """What is wrong with one thing that `provides_algorithms` gave; empty where nothing is."""
    if not isinstance(claim, AlgorithmSupport):
        return f"{type(claim).__name__}, not an AlgorithmSupport"
    if not _NAME.match(str(claim.algorithm)):
        return f"an algorithm called {claim.algorithm!r}"
    if not isinstance(claim.preference, int):
        return f"'{claim.algorithm}' with a preference that is no whole number"
    for cell, support in claim.cells.items():
        if not (isinstance(cell, tuple) and len(cell) == 2 and all(isinstance(part, str) for part in cell)):
            return f"'{claim.algorithm}' with the cell {cell!r}, which is no (task, model type)"
        if not isinstance(support, Support) or support.level not in get_args(Level):
            return f"'{claim.algorithm}' with the cell {cell!r}, which has no level"
        if support.level != "full" and not support.note:
            return f"'{claim.algorithm}' with the cell {cell!r}, which is {support.level} and has no note"
    return ""


def _check_requirement(entry: metadata.EntryPoint) -> None:
    """Refuse, before import, a plugin whose own requirement on aligntune does not hold."""
    from packaging.specifiers import SpecifierSet

    for text in (entry.dist.requires or []) if entry.dist else []:
        found = _REQUIREMENT.match(text)
        specifier = SpecifierSet(found[1]) if found else None
        installed = metadata.version(PROJECT)
        if specifier is not None and not specifier.contains(installed, prereleases=True):
            raise PluginContractError(
                f"it needs aligntune{specifier}, and {installed} is installed",
                f"pip install -U {_origin(entry)[0]} aligntune",
                field="backend",
                value=entry.name,
            )


def _check_hooks(plugin: object, name: str, spec: pluggy.PluginManager) -> None:
    """Refuse what pluggy would accept in silence: a class, a missing hook, an alias, an argument with a default."""
    if inspect.isclass(plugin):
        raise PluginContractError(
            "the entry point names a class", "name an instance or a module: have you forgotten ()?"
        )
    for hook in _HOOKS:
        function = getattr(plugin, hook, None)
        options = spec.parse_hookimpl_opts(plugin, hook) if function else None
        if function is None or options is None:
            if hook in REQUIRED:
                raise PluginContractError(f"the hook {hook}() is missing", "define it and mark it with @hookimpl")
        elif options.get("specname"):
            raise PluginContractError(f"{hook}() uses specname", "name the function like the hook")
        else:
            _check_arguments(hook, function)


def _check_arguments(hook: str, function: Callable[..., object]) -> None:
    """An argument with a default gets no value in pluggy 1.6.0, and does in 1.7.0; a keyword-only one never does."""
    for argument in inspect.signature(function).parameters.values():
        if argument.default is not argument.empty or argument.kind is argument.KEYWORD_ONLY:
            problem = f"the argument '{argument.name}' of {hook}() is keyword-only or has a default"
            raise PluginContractError(problem, "make it plain: arguments are given by name")


def _load(manager: pluggy.PluginManager, entry: metadata.EntryPoint) -> Backend | LoadFailure:
    phase = "checked"
    try:
        if not _NAME.match(entry.name) or entry.name == "auto":
            raise PluginContractError("a backend's name is lower-case letters, digits and _", "rename the entry point")
        _check_requirement(entry)
        phase = "imported"
        with contextlib.redirect_stdout(sys.stderr):
            plugin = entry.load()
            phase = "registered"
            _check_hooks(plugin, entry.name, manager)
            manager.register(plugin, name=entry.name)
        backend = Backend(manager, entry.name, entry)
        phase = "described"
        _ = backend.algorithms
        return backend
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - SystemExit at import is one of the ways to fail
        if manager.has_plugin(entry.name):
            manager.unregister(name=entry.name)
        return LoadFailure(entry.name, *_origin(entry), entry.value, phase, error)


def _clash(entries: list[metadata.EntryPoint]) -> LoadFailure:
    owners = " and ".join(sorted(f"{d} {v}" for d, v in map(_origin, entries)))
    error = PluginContractError(
        f"two distributions bring a backend of this name: {owners}",
        "uninstall one of them",
        field="backend",
        value=entries[0].name,
    )
    return LoadFailure(entries[0].name, owners, "", entries[0].value, "found", error)


def _found() -> Iterable[metadata.EntryPoint]:
    return metadata.entry_points(group=GROUP)


def load_registry(
    find: Callable[[], Iterable[metadata.EntryPoint]] = _found, environ: Mapping[str, str] | None = None
) -> BackendRegistry:
    """Load every allowed backend plugin, in an order that does not depend on how they were found.

    Args:
        find: gives the entry points; tests give their own.
        environ: where the ALIGNTUNE_* variables are read (default: the process's).

    Raises:
        PluginLoadError: only with ALIGNTUNE_STRICT_PLUGINS=1, for the first plugin that fails.
    """
    environ = os.environ if environ is None else environ
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(BackendSpecs)
    if environ.get("ALIGNTUNE_TRACE_PLUGINS") == "1":
        manager.trace.root.setwriter(sys.stderr.write)
        manager.enable_tracing()
    by_name: dict[str, list[metadata.EntryPoint]] = defaultdict(list)
    for entry in find():
        if _allowed(entry.name, environ):
            by_name[entry.name].append(entry)
    results = [
        _clash(entries) if len({_origin(e) for e in entries}) > 1 else _load(manager, entries[0])
        for _, entries in sorted(by_name.items())
    ]
    failures = [r for r in results if isinstance(r, LoadFailure)]
    for failure in failures:
        if environ.get("ALIGNTUNE_STRICT_PLUGINS") == "1":
            failure.raise_()
        log.warning("the plugin '%s' (%s) is left out: %s", failure.name, failure.distribution, failure.reason)
    return BackendRegistry([r for r in results if isinstance(r, Backend)], failures)
