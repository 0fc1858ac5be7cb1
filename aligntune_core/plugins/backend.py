"""One loaded backend, with a typed door for each hook."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from aligntune_core.discovery import Entry
from aligntune_core.environment import Environment
from aligntune_core.errors import AlignTuneError, BackendUnavailableError, PluginContractError, told
from aligntune_core.hookspecs import REQUIRED, BackendSpecs
from aligntune_core.plugins.blaming import blaming
from aligntune_core.plugins.border import checked_claims, checked_verdict
from aligntune_core.plugins.checked import CheckedModel, CheckedTrainer, checked_preview
from aligntune_core.plugins.guard import guarded, refuse_from_within
from aligntune_core.plugins.manager import Hooks
from aligntune_core.saved_values import OpenModel, OpenRequest
from aligntune_core.values import AlgorithmSupport, Availability, BackendTrainer, Isolation, Preview, TrainRequest


class Backend:
    """A backend that is installed and keeps its contract.

    Attributes:
        name: its entry point's name.
        entry: where it comes from.

    Args:
        plugin: what the entry point names.
        trace: write each call of a hook to standard error.
    """

    def __init__(self, entry: Entry, plugin: object, *, trace: bool = False) -> None:
        self.name, self.entry = entry.name, entry
        self.distribution, self.version = entry.distribution, entry.version
        self._hung: Availability | None = None
        self._hooks = Hooks(entry, plugin, BackendSpecs, REQUIRED, trace=trace)

    @property
    def hooks(self) -> list[str]:
        """The hooks that it has."""
        return self._hooks.present

    @property
    def _report(self) -> str:
        return f"upgrade {self.distribution} or report it to its authors"

    def _broke(self, problem: str) -> PluginContractError:
        return PluginContractError(f"{problem} ({self.entry.origin})", self._report, field="backend", value=self.name)

    def blamed(self, doing: str) -> contextlib.AbstractContextManager[None]:
        """Around its code: whatever is raised there says whose it is.

        Raises:
            PluginContractError: it tried to end the process.
        """
        return blaming(doing, f"the backend '{self.name}' ({self.entry.origin})", self._broke)

    def _described(self, hook: str, **arguments: Any) -> Any:
        with self.blamed(hook), guarded(f"{hook}() of the plugin '{self.name}' ({self.entry.origin})"):
            given = self._hooks.call(hook, **arguments)
            return checked_claims(given) if hook == "provides_algorithms" else checked_verdict(given)

    @cached_property
    def algorithms(self) -> Mapping[str, AlgorithmSupport]:
        """What it trains, by canonical name.

        Raises:
            PluginContractError: the hook gave something else.
        """
        try:
            claims: Mapping[str, AlgorithmSupport] = self._described("provides_algorithms")
        except PluginContractError as error:
            raise self._broke(error.problem) from error
        return claims

    def verdict(self, environment: Environment, request: TrainRequest | None = None) -> Availability:
        """Its verdict, raising whatever the hook raises.

        Raises:
            PluginContractError: it gave no Availability, or says no and not why.
            TimeoutError: it took too long.
        """
        verdict: Availability = self._described("is_available", environment=environment, request=request)
        return verdict

    def is_available(self, environment: Environment, request: TrainRequest | None = None) -> Availability:
        """Its verdict; a hook that raises or breaks its promise means: not available, for that reason."""
        if self._hung is not None:
            return self._hung
        refuse_from_within()
        try:
            return self.verdict(environment, request)
        except KeyboardInterrupt:
            raise
        except AlignTuneError as error:
            return Availability(False, error.problem, self._report)
        except TimeoutError as error:
            self._hung = Availability(False, f"is_available() hangs: {error}", self._report)
            return self._hung  # asked again, it would hang again
        except BaseException as error:  # noqa: BLE001 - a plugin may raise anything
            return Availability(False, f"is_available() raised {told(error)}", self._report)

    def build_trainer(self, request: TrainRequest) -> CheckedTrainer:
        """A ready trainer, checked at each call.

        Raises:
            PluginContractError: the object lacks a method of `BackendTrainer`, or the hook tried to end the process.
        """
        with self.blamed("build_trainer"):
            trainer = self._hooks.call("build_trainer", request=request)
            fits = isinstance(trainer, BackendTrainer)  # this reads its properties
        if not fits:
            raise self._broke(f"build_trainer() gave {type(trainer).__name__}, which is no BackendTrainer")
        return self.checked(trainer)

    def checked(self, trainer: BackendTrainer) -> CheckedTrainer:
        """A trainer of this backend, checked at each call."""
        return CheckedTrainer(trainer, self.blamed, self._broke)

    def isolation(self, folder: Path) -> Isolation:
        """Which process it trains in.

        Raises:
            PluginContractError: it gave something else, or tried to end the process.
        """
        if "isolation" not in self.hooks:
            return Isolation()
        with self.blamed("isolation"):
            found = self._hooks.call("isolation", folder=folder)
        if not isinstance(found, Isolation):
            raise self._broke(f"isolation() gave {type(found).__name__}, which is no Isolation")
        return found

    def build_preview(self, request: TrainRequest) -> Preview | None:
        """What shows rows as the model sees them, checked at each call; None where the backend has no such hook.

        Raises:
            PluginContractError: it gave something else, or tried to end the process.
        """
        if "build_preview" not in self.hooks:
            return None
        with self.blamed("build_preview"):
            preview = self._hooks.call("build_preview", request=request)
        if not isinstance(preview, Preview):
            raise self._broke(f"build_preview() gave {type(preview).__name__}, which is no Preview")
        return checked_preview(preview, self.blamed, self._broke)

    def tiny_model(self, model_type: str, path: Path) -> bool:
        """Write a tiny model to `path`; False where the backend has none."""
        with self.blamed("tiny_model"):
            return bool(self._hooks.call("tiny_model", model_type=model_type, path=path))

    @property
    def opens_models(self) -> bool:
        """Whether it has the hook `open_model`."""
        return "open_model" in self.hooks

    def open_model(self, request: OpenRequest) -> CheckedModel:
        """A saved model, checked at each call.

        Raises:
            BackendUnavailableError: the backend does not have the hook.
            PluginContractError: the object is no `OpenModel`, or the hook tried to end the process.
        """
        if not self.opens_models:
            problem, remedy = "it opens no saved models", "use the model's folder with the library that trained it"
            raise BackendUnavailableError(problem, remedy, field="backend", value=self.name)
        with self.blamed("open_model"):
            model = self._hooks.call("open_model", request=request)
            fits = isinstance(model, OpenModel)
        if not fits:
            raise self._broke(f"open_model() gave {type(model).__name__}, which is no OpenModel")
        return CheckedModel(model, self.name, self.blamed, self._broke)
