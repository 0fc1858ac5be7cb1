"""The hooks: the only text on what a plugin provides.

A backend is a small module that an entry point of the group `aligntune.backends` names; the entry point's
name is the backend's. Describing a backend must be cheap: only hooks that load a model or its
tokenizer may import a training library.
Any other plugin stands in the group `aligntune.plugins`; its hooks are all optional, and it is imported only
when one of its commands is called, `report_to` names it, `reward_functions` names a reward that is not built in, or
`aligntune diagnose` looks at everything.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

from aligntune_core.discovery import PROJECT

if TYPE_CHECKING:
    import click

    from aligntune_core.environment import Environment
    from aligntune_core.rewards import Reward
    from aligntune_core.saved_values import OpenModel, OpenRequest
    from aligntune_core.values import (
        AlgorithmSupport,
        Availability,
        BackendTrainer,
        Callback,
        Isolation,
        Preview,
        RunInfo,
        TrainRequest,
    )

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)

REQUIRED = ("provides_algorithms", "is_available", "build_trainer")


class BackendSpecs:
    """Each hook is asked of one backend at a time, so its result is a plain value."""

    @hookspec(firstresult=True)
    def provides_algorithms(self) -> Iterable[AlgorithmSupport]:  # type: ignore[empty-body]
        """Say what this backend trains.

        Returns:
            One `AlgorithmSupport` for each algorithm.

        Rules:
            Imports no training library; it may read an installed version's metadata.

        Example:
            @hookimpl
            def provides_algorithms():
                cells = {("chat_completion", "causal_lm"): Support("full")}
                return [AlgorithmSupport(algorithm="sft", cells=cells, settings=frozenset({"learning_rate"}))]
        """

    @hookspec(firstresult=True)
    def is_available(self, environment: Environment, request: TrainRequest | None) -> Availability:  # type: ignore[empty-body]
        """Say whether this backend can run here and now.

        Args:
            environment: the machine; judge by this, not by what you find yourself.
            request: None while only the machine is asked about; what is to be trained, where a run chooses its backend,
                still without rows, and just before `build_trainer`, with them.

        Returns:
            `Availability(True)`, or one with a reason and a remedy.

        Rules:
            Cheap, opens no GPU context, imports no training library, never raises. What costs a second, such as a child
            process that asks the driver, is for a `request`.

        Example:
            @hookimpl
            def is_available(environment):
                if "torch" not in environment.packages:
                    return Availability(False, "torch is not installed", "pip install torch")
                return Availability(True)
        """

    @hookspec(firstresult=True)
    def build_trainer(self, request: TrainRequest) -> BackendTrainer:  # type: ignore[empty-body]
        """Load the model and give a trainer that is ready to train.

        Args:
            request: validated settings and rows.

        Returns:
            An object with the methods of `BackendTrainer`.

        Raises:
            ConfigError: a setting that only the library can judge is wrong.

        Rules:
            May import a training library. Writes nothing outside `request.work_dir`.

        Example:
            @hookimpl
            def build_trainer(request):
                from my_backend.trainer import MyTrainer

                return MyTrainer(request)
        """

    @hookspec(firstresult=True)
    def build_preview(self, request: TrainRequest) -> Preview:  # type: ignore[empty-body]
        """Optional: show rows as the model sees them, without loading the model.

        Args:
            request: as for `build_trainer`.

        Returns:
            A `Preview`, made with the tokenizer alone.

        Raises:
            ConfigError: a setting that only the tokenizer can judge is wrong.

        Rules:
            Its first part of a row has the tokens and labels that `BackendTrainer.preview` gives. Loads no weights and
            writes nothing. `aligntune preview` asks it; without it that command is refused.

        Example:
            @hookimpl
            def build_preview(request):
                from my_backend.preview import preview_of

                return preview_of(request)
        """

    @hookspec(firstresult=True)
    def isolation(self, folder: Path) -> Isolation:  # type: ignore[empty-body]
        """Optional: say which process this backend trains in; without it, in the caller's.

        Args:
            folder: where a worker's libraries may keep files, such as compiled code; it does not exist yet, and is
                removed at the end.

        Returns:
            An `Isolation`.

        Rules:
            Cheap, imports no training library. A backend that cannot share a process with what is already imported
            says so in `is_available` or `build_trainer`, for those who set `isolation: none`.

        Example:
            @hookimpl
            def isolation(folder):
                return Isolation(own_process=True, preload=("my_backend.trainer",), environ={"MY_CACHE": str(folder)})
        """

    @hookspec(firstresult=True)
    def tiny_model(self, model_type: str, path: Path) -> bool:  # type: ignore[empty-body]
        """Optional: write a tiny untrained model with its tokenizer to `path`, the same at each call.

        Args:
            model_type: one of `aligntune_core.values.MODEL_TYPES`.
            path: a folder that does not exist yet.

        Returns:
            True if it was written, False if this backend has none of that type.

        Rules:
            Offline and deterministic. `aligntune demo` and the test kit train it.

        Example:
            @hookimpl
            def tiny_model(model_type, path):
                from my_backend.tiny import write_model

                return write_model(model_type, path)
        """

    @hookspec(firstresult=True)
    def open_model(self, request: OpenRequest) -> OpenModel:  # type: ignore[empty-body]
        """Optional: open a model that a run of this backend saved, or any of a kind that it trains.

        `aligntune generate`, `chat` and `export --merge` use it.

        Args:
            request: where the model is, and how the run that saved it asked.

        Returns:
            An object with the methods of `OpenModel`.

        Raises:
            ConfigError: it cannot be loaded.

        Rules:
            May import a training library. Writes nothing.

        Example:
            @hookimpl
            def open_model(request):
                from my_backend.opened import MyModel

                return MyModel(request)
        """


class PluginSpecs:
    """The hooks of plugins that are no backends; each is asked of one plugin at a time."""

    @hookspec(firstresult=True)
    def provides_commands(self) -> Iterable[click.Command]:  # type: ignore[empty-body]
        """Bring commands to the command line.

        Returns:
            click commands; `aligntune NAME COMMAND` runs one, where NAME is the entry point's name.

        Rules:
            Asked only when NAME is called. Imports what is heavy within the commands, not before.

        Example:
            @hookimpl
            def provides_commands():
                @click.command()
                @click.argument("run_dir", type=click.Path(path_type=Path))
                def steps(run_dir):
                    '''How many steps the run in RUN_DIR has done.'''
                    click.echo(json.loads((run_dir / "run.json").read_text())["steps_done"])

                return [steps]
        """

    @hookspec(firstresult=True)
    def provides_callbacks(self, run: RunInfo) -> Iterable[Callback]:  # type: ignore[empty-body]
        """Follow a run, as a tracker does.

        Args:
            run: the run that begins.

        Returns:
            Objects of classes that extend `Callback`.

        Rules:
            Asked only for a run whose `report_to` names the plugin, in the process of rank 0. A callback that
            raises is warned of once and left out from then on: a tracker that is down ends no run.

        Example:
            class Best(Callback):
                def __init__(self, file):
                    self.file, self.loss = file, float("inf")

                def row(self, row):
                    self.loss = min(self.loss, row.get("loss") or self.loss)

                def end(self, status):
                    self.file.write_text(f"{status}: {self.loss}")

            @hookimpl
            def provides_callbacks(run):
                return [Best(run.run_dir / "best.txt")]
        """

    @hookspec(firstresult=True)
    def provides_rewards(self) -> Iterable[Reward]:  # type: ignore[empty-body]
        """Bring rewards that `reward_functions` can name.

        Returns:
            One `Reward` for each name; a built-in one cannot be replaced.

        Rules:
            Asked only for a run that names a reward which is not built in. Imports what is heavy within the
            functions, not before. What a model wrote is never evaluated.

        Example:
            def polite(*, word: str = "please"):
                def reward(completion):
                    return float(word in text_of(completion))

                return reward

            @hookimpl
            def provides_rewards():
                return [Reward("polite", make=polite)]
        """
