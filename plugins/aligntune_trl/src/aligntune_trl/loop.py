"""What we add to TRL's trainers: core hears the loop, a number that is not finite stops it, evaluation is per token."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from aligntune_core import DivergedError, RunEvents

_PASSED_OVER = (
    *("epoch", "total_flos", "step", "eval_runtime", "eval_samples_per_second", "eval_steps_per_second"),
    *("eval_model_preparation_time", "eval_num_tokens", "num_input_tokens_seen", "train_runtime"),
    *("train_samples_per_second", "train_steps_per_second", "train_tokens_per_second"),
)


class Relay(TrainerCallback):  # type: ignore[misc]  # transformers is not typed
    """Tells core what the loop does, and the loop when to stop.

    Args:
        events: core's ear.
        accelerator: of the trainer.
        every: the loop stops after a multiple of so many steps only, where it can be resumed.
    """

    def __init__(self, events: RunEvents, accelerator: Any, every: int = 1) -> None:
        self._events, self._accelerator, self._every = events, accelerator, every
        self._mark = self._busy = 0.0
        self._tokens = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._mark = time.monotonic()
        self._tokens = float(state.num_input_tokens_seen)  # of the run that is resumed
        self._events.start(state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        now = time.monotonic()
        self._busy += now - self._mark
        self._mark = now
        self._events.step(state.global_step)
        if state.global_step % self._every == 0 and self._everyone_stops():
            control.should_save = control.should_training_stop = True
        if control.should_training_stop or state.global_step >= state.max_steps:
            control.should_log = True  # the last window is a row too, however short

    def _everyone_stops(self) -> bool:
        """Whether any process was asked to stop; all must agree, or they would wait for each other forever."""
        if self._accelerator.num_processes == 1:
            return self._events.stopping
        asked = torch.tensor([float(self._events.stopping)], device=self._accelerator.device)
        return bool(self._accelerator.reduce(asked, reduction="sum").item() > 0)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._mark = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        logs = logs or {}
        if "train_loss" in logs:  # the library's summary of the whole run
            return
        split = "eval" if any(name.startswith("eval_") for name in logs) else "train"
        values = {
            name.removeprefix("eval_"): float(value)
            for name, value in logs.items()
            if isinstance(value, int | float) and name not in _PASSED_OVER
        }
        if split == "train":
            values |= self._speed(logs.get("num_tokens", logs.get("num_input_tokens_seen")))
        self._events.metrics(state.global_step, values, epoch=float(state.epoch or 0.0), split=split)

    def _speed(self, seen: float | None) -> dict[str, float]:
        """Tokens a second since the last row, padding left out, evaluation and saving not counted."""
        if seen is None:  # a window within a rollout, which generated nothing
            return {}
        speed = (seen - self._tokens) / self._busy if self._busy else 0.0
        self._tokens, self._busy = seen, 0.0
        return {"tokens_per_second": speed}

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._accelerator.wait_for_everyone()
        self._events.checkpoint(state.global_step, Path(args.output_dir) / f"checkpoint-{state.global_step}")
        self._accelerator.wait_for_everyone()
        self._mark = time.monotonic()


def without_repeats(inputs: dict[str, Any], accelerator: Any) -> dict[str, Any]:
    """Mask the rows that fill up the last batch of several processes: they were evaluated before."""
    state, count = accelerator.gradient_state, len(inputs["labels"])
    if accelerator.num_processes == 1 or not state.end_of_dataloader or state.remainder <= 0:
        return inputs
    labels = inputs["labels"].clone()
    labels[max(state.remainder - accelerator.process_index * count, 0) :] = -100
    return {**inputs, "labels": labels}


_Trainer: Any = object  # TRL's class, which comes beneath when it is known


class _Guarded(_Trainer):  # type: ignore[misc]
    """What `guarded` puts on top of a trainer class."""

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        self.accelerator.clip_grad_norm_ = self._checked_norm(self.accelerator.clip_grad_norm_)

    def _checked_norm(self, clip: Callable[..., Any]) -> Callable[..., Any]:
        def clip_and_check(*args: Any, **kwargs: Any) -> Any:
            norm = clip(*args, **kwargs)
            # With fp16 the scaler meets infinite gradients in the normal course and skips that step.
            if norm is not None and self.accelerator.scaler is None and not math.isfinite(float(norm)):
                raise DivergedError.at(self.state.global_step + 1, "grad_norm", float(norm))
            return norm

        return clip_and_check

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Without TRL's frozen copy of an adapter: where a checkpoint has it, transformers restores nothing else."""
        super()._save_checkpoint(model, trial)
        if self.args.should_save:
            name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            shutil.rmtree(Path(self._get_output_dir(trial=trial)) / name / "ref", ignore_errors=True)

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss).all():
            raise DivergedError.at(self.state.global_step + 1, "loss", float(loss))
        return loss


def guarded(base: type[Any]) -> type[Any]:
    """A trainer class that stops within a step of a number that is not finite.

    It is made when it is needed, from whatever class the caller has, so import order cannot change what it extends.
    """
    return type(base.__name__, (_Guarded, base), {})


class MeanOverTokens(_Trainer):  # type: ignore[misc]
    """Evaluation is a mean over tokens; the library takes the mean over batches, which depends on the batch size.

    What extends it calls `add` for each batch.
    """

    def add(self, loss: torch.Tensor, count: torch.Tensor) -> None:
        """A batch's mean loss, and over how many tokens."""
        self._eval_tokens += count
        self._eval_loss += torch.where(count > 0, loss.double(), 0.0) * count

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        device = self.args.device
        self._eval_loss = torch.zeros((), dtype=torch.float64, device=device)
        self._eval_tokens = torch.zeros((), dtype=torch.int64, device=device)
        output = super().evaluation_loop(*args, **kwargs)
        total = self.accelerator.reduce(self._eval_loss, reduction="sum")
        tokens = self.accelerator.reduce(self._eval_tokens, reduction="sum")
        prefix = kwargs.get("metric_key_prefix", "eval")
        loss = (total / tokens.clamp(min=1)).item()
        output.metrics.update({f"{prefix}_loss": loss, f"{prefix}_perplexity": math.exp(min(loss, 700.0))})
        return output


class _PerToken(MeanOverTokens):
    """What `per_token` puts on top of a trainer class."""

    def prediction_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """The mean over this batch's tokens alone; versions of the libraries differ in what else they divide by."""
        inputs = without_repeats(self._prepare_inputs(inputs), self.accelerator)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss = self.compute_loss(model, inputs).detach()
        self.add(loss, (inputs["labels"][:, 1:] != -100).sum())
        return loss, None, None


def per_token(base: type[Any]) -> type[Any]:
    """A trainer class that evaluates per token."""
    return type(base.__name__, (_PerToken, base), {})
