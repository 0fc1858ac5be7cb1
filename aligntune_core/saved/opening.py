"""Opening a saved model through the backend that trained it; one that no run made, through the first that can."""

from __future__ import annotations

import logging
import os

from aligntune_core.environment import Environment, detect
from aligntune_core.errors import (
    BackendUnavailableError,
    ConfigError,
    NoBackendError,
    PluginLoadError,
    UnknownBackendError,
)
from aligntune_core.installed import build_matrix, default_registry
from aligntune_core.ours import EXTRAS, install_remedy
from aligntune_core.plugins import Backend, BackendRegistry
from aligntune_core.plugins.checked import CheckedModel
from aligntune_core.saved.find import Saved, settings_of
from aligntune_core.saved_values import OpenRequest
from aligntune_core.selector import AUTO, backend_name, ranking

log = logging.getLogger("aligntune")


def open_saved(
    saved: Saved, *, backend: str = AUTO, system_prompt: str | None = None, trust: bool = False
) -> CheckedModel:
    """The model, ready to be asked.

    Args:
        saved: what `find_saved` gave.
        backend: who opens it; auto: who trained it, where that can run here, else the first backend that can.
        system_prompt: instead of the run's.
        trust: run Python code that comes with the model. Off, whatever `run.json` says: it lies beside the model,
            and who made the one made the other.

    Raises:
        BackendUnavailableError, NoBackendError, UnknownBackendError: nobody can open it here.
        ConfigError: it cannot be loaded.
    """
    if system_prompt is not None and (saved.plain_text or saved.head.model_type == "classification"):
        problem, remedy = "this model is not asked in conversations", "leave it out"
        raise ConfigError(problem, remedy, field="system_prompt", value=system_prompt)
    environment, registry = detect(), default_registry()
    chosen = _choose(registry, environment, saved, backend)
    config = settings_of(saved, system_prompt=system_prompt, trust_remote_code=trust)
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    request = OpenRequest(
        model=saved.model,
        model_type=saved.head.model_type or "causal_lm",
        config=config,
        environment=environment,
        algorithm=str(saved.run.get("algorithm") or ""),
        task=str(saved.run.get("task") or ""),
        row_format=str(saved.run.get("row_format") or ""),
    )
    return chosen.open_model(request)


def _choose(registry: BackendRegistry, environment: Environment, saved: Saved, asked: str) -> Backend:
    """The backend that is named; else the one that trained it, where that can run here, or the first that can."""
    if asked != AUTO or not saved.backend:
        return _named(registry, environment, asked)
    try:
        return _named(registry, environment, saved.backend)
    except (BackendUnavailableError, UnknownBackendError, PluginLoadError) as error:
        trained = error
    try:
        chosen = _first(registry, environment)
    except NoBackendError:
        raise trained from None
    log.warning("it was trained by the backend '%s' (%s); '%s' opens it", saved.backend, trained.problem, chosen.name)
    return chosen


def _named(registry: BackendRegistry, environment: Environment, asked: str) -> Backend:
    name = backend_name(asked, registry.known, registry.disabled)
    if name == AUTO:
        return _first(registry, environment)
    registry.raise_unusable(name)
    if name not in registry.backends:
        remedy = install_remedy(name) if name in EXTRAS else "install it, or give another --backend"
        raise BackendUnavailableError(f"the backend '{name}' is not installed", remedy, field="backend", value=name)
    chosen = registry.backends[name]
    verdict = chosen.is_available(environment)
    if not verdict.ok:
        raise BackendUnavailableError(verdict.reason, verdict.remedy, field="backend", value=name)
    return chosen


def _first(registry: BackendRegistry, environment: Environment) -> Backend:
    """The first backend, in the order in which `auto` trains, that opens models and can run here."""
    for name in ranking(build_matrix(registry, environment), "sft"):
        backend = registry.backends[name]
        if backend.opens_models and backend.is_available(environment).ok:
            return backend
    remedy = "see 'aligntune diagnose'"
    raise NoBackendError("no backend that can run here opens saved models", remedy, field="backend", value=AUTO)
