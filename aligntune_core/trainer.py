"""The trainer that a user holds: the run folder, the metrics and the ends of a run, around a backend's loop."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import signal
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aligntune_core.config.settings import resume_value
from aligntune_core.errors import AlignTuneError, ConfigError, PluginContractError, RunInterrupted, StorageError, told
from aligntune_core.plan import Plan
from aligntune_core.plugins.checked import CheckedTrainer
from aligntune_core.runs import metrics
from aligntune_core.runs.callbacks import Tolerated
from aligntune_core.runs.folder import METRICS, MODEL, SAMPLES, RunFolder
from aligntune_core.runs.log import RunLog
from aligntune_core.runs.progress import default_progress
from aligntune_core.runs.recorder import Recorder
from aligntune_core.runs.resume import Resumption, check_unchanged, find_resumption, tell_changes
from aligntune_core.runs.signals import stop_signals
from aligntune_core.runs.storage import is_replaceable, is_storage_error, storage_error
from aligntune_core.selector import Selection
from aligntune_core.values import Callback, TrainResult

log = logging.getLogger("aligntune")


class Trainer:
    """Trains once, then evaluates, predicts and saves. Made by `get_trainer`; use it in a `with` block or `close()` it.

    Attributes:
        run_dir: the run folder; it exists once `train` has begun.
        selection: which backend was chosen, why, and what was not.
    """

    def __init__(self, plan: Plan, backend: CheckedTrainer | None, run_log: RunLog) -> None:
        self._plan, self._backend, self._log = plan, backend, run_log
        self._listeners: list[Callback] | None = None
        self._trained = False
        self.run_dir: Path = plan.run_dir
        self._absolute = plan.run_dir.absolute()  # a training loop may change the working directory
        self.selection: Selection = plan.selection

    @property
    def _ready(self) -> CheckedTrainer:
        if self._backend is None:
            remedy = f"set model_name to {self.run_dir / MODEL} to use its model"
            raise ConfigError("this run is finished, and its trainer is not loaded", remedy, field="resume")
        return self._backend

    @property
    def resolved(self) -> Mapping[str, Any]:
        """The library's own arguments, read back after construction."""
        return self._ready.resolved

    @property
    def native(self) -> Any:
        """The library's trainer."""
        return self._ready.native

    def listen(self, *listeners: Callback) -> None:
        """Show the run through these instead of the default progress; none: quiet."""
        self._listeners = list(listeners)

    def train(self, resume: bool | str | None = None) -> TrainResult:
        """Run the loop to its end and save the model.

        Args:
            resume: as the setting of that name; None: what the setting says.

        Returns:
            How it ended; for a run that is already finished, how it ended then, and nothing is written.

        Raises:
            ConfigError: it has trained before, and `resume` does not say to go on; settings or data have changed.
            DivergedError: a loss or gradient is not finite.
            StorageError: the disk is full; the last good checkpoint is intact.
            RunInterrupted: Ctrl-C or SIGTERM; state is saved.
        """
        wanted = resume_value(resume)
        if self._trained and not wanted:
            remedy = "make a new trainer, or go on with train(resume=True)"
            raise ConfigError("this trainer has trained already", remedy, field="resume", value=resume)
        resumption = self._plan.resumption if resume is None else find_resumption(wanted, self.run_dir)
        if resumption.finished and resumption.run is not None:
            log.info("%s is already finished; nothing is written", self.run_dir)
            return self._result_of(resumption.run)
        return self._run(self._ready, resumption)

    def _run(self, backend: CheckedTrainer, resumption: Resumption) -> TrainResult:
        folder = RunFolder(self._absolute)
        first = int((resumption.run or {}).get("steps_done", 0))
        if resumption.checkpoint is not None:
            first = int(resumption.checkpoint.name.rpartition("-")[2])
        if resumption.run is not None:
            check_unchanged(resumption.run, self._plan.record())
        overwrite = self._plan.config.overwrite and not self._trained and resumption.run is None
        callbacks = self._callbacks() if folder.writes else []
        folder.open(overwrite=overwrite, goes_on=resumption.asked or self._trained)
        self._trained = True
        config = self._plan.config
        try:
            with self._log.into(self._absolute if folder.writes else None):
                recorder = Recorder(
                    folder,
                    callbacks,
                    keep=config.save_total_limit,
                    max_steps=config.max_steps,
                    resume_from=resumption.checkpoint,
                    first_step=first,
                )
                return self._recorded(backend, folder, recorder, resumption)
        finally:
            folder.close()

    def _callbacks(self) -> list[Callback]:
        """The progress, or what the user listens with instead, and what the trackers of plugins bring."""
        shown = [default_progress()] if self._listeners is None else self._listeners
        trackers = [
            Tolerated(callback, f"the tracker '{plugin.name}' ({plugin.entry.origin})")
            for plugin in self._plan.trackers
            for callback in plugin.callbacks(self._plan.info)
        ]
        return [*shown, *trackers]

    def _recorded(
        self, backend: CheckedTrainer, folder: RunFolder, recorder: Recorder, resumption: Resumption
    ) -> TrainResult:
        folder.load(resumption.run or {})
        folder.write(
            **self._plan.record(),
            resolved=json.loads(json.dumps(dict(backend.resolved), default=str), parse_constant=str),
            status="running",
            steps_planned=None,
            steps_done=recorder.steps_done,
            model_path=None,
        )
        if resumption.checkpoint is not None:
            log.info("going on from %s, with the weights that are in it", resumption.checkpoint)
            tell_changes(resumption.run or {}, self._plan.record())
        for name in (METRICS, SAMPLES) if folder.writes else ():
            metrics.rewind(self._absolute / name, recorder.steps_done)
        recorder.rows = metrics.read(self._absolute / METRICS)
        try:
            with stop_signals(lambda number: self._ask(recorder, number)):
                self._loop(backend, recorder)
                result = self._finish(backend, folder, recorder)
        except BaseException as error:
            self._record_failure(folder, recorder, error)
            if not isinstance(error, AlignTuneError) and is_storage_error(error):
                raise storage_error(self.run_dir, error) from error
            raise
        recorder.end("finished")
        return result

    @staticmethod
    def _ask(recorder: Recorder, number: int) -> None:
        """Ask the loop to stop; a model that is being saved is saved to the end.

        This runs within whatever the signal interrupts, a half-written line too, so it writes past all buffers.
        """
        recorder.stop_signal = number
        text = f"warning: {signal.Signals(number).name}: saving, then stopping; once more to stop at once\n"
        with contextlib.suppress(OSError):
            os.write(2, text.encode())

    def _loop(self, backend: CheckedTrainer, recorder: Recorder) -> None:
        try:
            backend.train(recorder)
        finally:
            recorder.finish()
        if recorder.stop_signal is not None and recorder.steps_done < recorder.steps_planned:
            message = (
                f"stopped after step {recorder.steps_done} of {recorder.steps_planned}; state is saved; go on with: "
            )
            raise RunInterrupted(message + self._how_to_go_on(), recorder.stop_signal)
        if recorder.began is None or recorder.steps_done < recorder.steps_planned:
            done = f"after step {recorder.steps_done} of {recorder.steps_planned}" if recorder.began else "unstarted"
            remedy = "report it to the authors of the backend; see log.txt in the run folder"
            raise PluginContractError(
                f"its training loop ended {done}", remedy, field="backend", value=self.selection.backend
            )

    def _how_to_go_on(self) -> str:
        """The command; for a run with objects that only its script has, what to say there."""
        if all(reward.portable for reward in self._plan.rewards) and self._plan.model is None:
            return f"aligntune train --resume {shlex.quote(str(self.run_dir))}"
        return f"resume=True and output_dir={str(self.run_dir)!r} in your script"

    def _finish(self, backend: CheckedTrainer, folder: RunFolder, recorder: Recorder) -> TrainResult:
        model_path = self.run_dir / MODEL
        backend.save(self._absolute / MODEL)
        result = TrainResult(
            steps=recorder.steps_done,
            epochs=float(recorder.rows[-1]["epoch"]) if recorder.rows else 0.0,
            final_loss=self._final_loss(recorder.rows),
            metrics=recorder.rows[-1] if recorder.rows else {},
            model_path=model_path,
            run_dir=self.run_dir,
            seconds=recorder.seconds,
        )
        folder.write(
            status="finished",
            steps_done=result.steps,
            epochs=result.epochs,
            final_loss=result.final_loss,
            seconds=round(result.seconds, 3),
            model_path=str(self._absolute / MODEL),
            peak_memory=dict(backend.peak()),
            error=None,
        )
        if folder.writes:
            self.write_report()
        return result

    def _final_loss(self, rows: Sequence[Mapping[str, Any]]) -> float | None:
        if self._plan.config.rows == "prompts":
            return None  # a policy's loss is about 0 whatever it has learnt
        losses = [row["loss"] for row in rows if row["split"] == "train" and row.get("loss") is not None]
        return float(losses[-1]) if losses else None

    def _record_failure(self, folder: RunFolder, recorder: Recorder, error: BaseException) -> None:
        status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        known = isinstance(error, AlignTuneError | KeyboardInterrupt)
        log.error("%s", error if known else "".join(traceback.format_exception(error)))
        folder.drop_staging()
        try:
            folder.write(status=status, steps_done=recorder.steps_done, error=str(error) or type(error).__name__)
            if folder.writes:
                self.write_report()
        except AlignTuneError as second:  # the disk is full: the first error is the one to tell
            log.warning("run.json could not be written: %s", second)
        recorder.end(status)

    def write_report(self) -> None:
        """Write `report.html` anew; that it cannot be drawn is told and ends nothing."""
        from aligntune_core.runs.report import write_report

        try:
            write_report(self._absolute)
        except ImportError as error:
            log.info("no report.html: %s is not installed; pip install 'aligntune[report]'", error.name)
        except Exception as error:
            log.warning("no report.html: %s", told(error), exc_info=True)  # log.txt has the traceback

    def _result_of(self, run: Mapping[str, Any]) -> TrainResult:
        rows = metrics.read(self._absolute / METRICS)
        return TrainResult(
            steps=int(run.get("steps_done", 0)),
            epochs=float(run.get("epochs") or 0.0),
            final_loss=run.get("final_loss"),
            metrics=rows[-1] if rows else {},
            model_path=Path(run["model_path"]) if run.get("model_path") else None,
            run_dir=self.run_dir,
            seconds=float(run.get("seconds") or 0.0),
        )

    def evaluate(self) -> dict[str, float]:
        """Numbers over the evaluation rows: `eval_loss`, the mean over tokens or pairs; `eval_reward` over answers.

        Raises:
            ConfigError: there are no evaluation rows.
        """
        if self._plan.rows.eval is None:
            remedy = "set eval_fraction or eval_dataset_name"
            raise ConfigError("there are no evaluation rows", remedy, field="eval_dataset_name", value=None)
        return {f"eval_{name}": float(value) for name, value in self._ready.evaluate().items()}

    def predict(self, inputs: Sequence[Any] | str) -> list[Any]:
        """An answer for each input: a question as text, or a list of messages."""
        return self._ready.predict([inputs] if isinstance(inputs, str) else list(inputs))

    def save_model(self, path: str | Path) -> Path:
        """Write the model, as it is now, so that it loads again; returns the folder.

        Raises:
            ConfigError: a file is there, or a folder with something else than a saved model.
            StorageError: it cannot be written.
        """
        target = Path(path)
        if not is_replaceable(target):
            problem = "is no folder of a saved model, and would be replaced"
            raise ConfigError(problem, "give a folder that does not exist yet", field="path", value=str(path))
        try:
            self._ready.save(target.absolute())
        except StorageError:
            raise
        except OSError as error:
            raise storage_error(target, error) from error
        return target

    def push_to_hub(self, repo_id: str, private: bool = True) -> str:
        """Upload the finished run's model with a model card; returns its address. Needs a login of the hub's own tools.

        The card tells data, settings, versions and what was measured; files are named without their folders.

        Args:
            repo_id: `name` or `owner/name`; it is created where it does not exist.
            private: the repository is to be private; one that is there already and public is refused.

        Raises:
            ConfigError: the run has no saved model yet, or the hub refuses the upload.
        """
        folder = self.run_dir / MODEL
        if not folder.is_dir():
            raise ConfigError("there is no saved model yet", "train first", field="repo_id", value=repo_id)
        from aligntune_core.runs import card, hub

        return hub.upload(repo_id, folder, card.Card.of_model(folder), private=private)

    def close(self) -> None:
        """Let go of the model."""
        if self._backend is not None:
            self._backend.close()
        self._backend = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
