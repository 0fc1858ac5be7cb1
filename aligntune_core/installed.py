"""The backends that are installed: their registry, their verdicts, what they train, and which one is chosen."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from typing import Any

from aligntune_core.algorithms import canonical
from aligntune_core.environment import Environment, detect
from aligntune_core.matrix import SupportMatrix
from aligntune_core.ours import EXTRAS, install_remedy, owner
from aligntune_core.plugins import Backend, BackendRegistry, load_registry
from aligntune_core.selector import AUTO, Selection, backend_name, select
from aligntune_core.values import Availability, TrainRequest

_one_at_a_time = threading.RLock()


@cache
def _loaded() -> BackendRegistry:
    return load_registry()


def default_registry() -> BackendRegistry:
    """The installed backends, loaded once a process, whichever thread asks first.

    Raises:
        PluginContractError: a plugin asks while it is loaded.
        PluginLoadError: only with ALIGNTUNE_STRICT_PLUGINS=1, for the first plugin that fails.
    """
    with _one_at_a_time:
        return _loaded()


def forget_registry() -> None:
    """Load the installed backends anew when they are next asked for; tests install others."""
    _loaded.cache_clear()


def build_matrix(registry: BackendRegistry, environment: Environment) -> SupportMatrix:
    """What the installed backends train, with each one's verdict on this machine."""
    return SupportMatrix(
        {b.name: b.algorithms for b in registry}, {b.name: b.is_available(environment) for b in registry}
    )


def list_backends() -> list[str]:
    """Names of the installed backends, sorted."""
    return sorted(default_registry().backends)


def get_backend_status() -> dict[str, dict[str, Any]]:
    """Name → available, reason, remedy, version, distribution; our own backends are listed even when absent."""
    registry, environment = default_registry(), detect()
    status: dict[str, dict[str, Any]] = {}
    for backend in registry:
        verdict = backend.is_available(environment)
        status[backend.name] = _status(verdict, backend.version, backend.distribution)
    for failure in registry.failures.values():
        verdict = Availability(False, f"it cannot be loaded: {failure.reason}", "see 'aligntune plugins'")
        status.setdefault(failure.name, _status(verdict, failure.entry.version, failure.entry.distribution))
    for off in registry.disabled.values():
        verdict = Availability(False, off.reason, off.remedy)
        status.setdefault(off.entry.name, _status(verdict, off.entry.version, off.entry.distribution))
    for name in EXTRAS:
        absent = _status(Availability(False, "not installed", install_remedy(name)), None, owner(name))
        status.setdefault(name, absent)
    return dict(sorted(status.items()))


def _status(verdict: Availability, version: str | None, distribution: str) -> dict[str, Any]:
    return {
        "available": verdict.ok,
        "reason": verdict.reason,
        "remedy": verdict.remedy,
        "version": version,
        "distribution": distribution,
    }


def support_matrix() -> SupportMatrix:
    """The support matrix of what is installed now."""
    return build_matrix(default_registry(), detect())


def choose(
    registry: BackendRegistry,
    environment: Environment,
    algorithm: object,
    backend: object,
    task: str | None = None,
    model_type: str | None = None,
    request: TrainRequest | None = None,
    refused: Callable[[Backend], Availability | None] = lambda backend: None,
) -> tuple[str, Selection]:
    """The canonical algorithm and the selected backend; None for `task` or `model_type` means not known yet.

    Args:
        registry, environment: what is installed, and where.
        algorithm, backend, task, model_type: as they were asked for.
        request: what is about to be trained, as far as it is known; None where only the question is.
        refused: why `auto` is to pass over a backend, whatever that says itself; None: it is not.

    Raises:
        UnknownAlgorithmError, UnknownBackendError, UnsupportedAlgorithmError, BackendUnavailableError, NoBackendError,
        PluginLoadError: see `aligntune_core.errors`.
    """
    name = canonical(algorithm, registry.extra_algorithms)
    wanted = backend_name(backend, registry.known, registry.disabled)
    registry.raise_unusable(wanted)
    matrix = SupportMatrix({b.name: b.algorithms for b in registry}, {})

    def verdict(candidate: str) -> Availability:
        asked = registry.backends[candidate]
        return (refused(asked) if wanted == AUTO else None) or asked.is_available(environment, request)

    return name, select(matrix, verdict, backend=wanted, algorithm=name, task=task, model_type=model_type)
