"""Evaluating what is measured row by row: the mean over all rows, whatever the batch size, drawn with a fixed seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch

_Trainer: Any = object  # TRL's class, which comes beneath when it is known


class _PerRow(_Trainer):  # type: ignore[misc]
    """What `per_row` puts on top of a trainer class."""

    _metrics: dict[str, dict[str, list[float]]]
    _rest: Any = None
    alike = False
    """Every process evaluates the same rows now, so what is gathered stands there once for each."""

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """Of the rows that fill whole batches on all processes; the library would repeat rows to fill the last one."""
        size = self.args.per_device_eval_batch_size * self.accelerator.num_processes
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        if self.accelerator.num_processes == 1 or not hasattr(rows, "select"):
            return super().get_eval_dataloader(eval_dataset)
        whole = len(rows) // size * size
        self._rest = rows.select(range(whole, len(rows)))
        return super().get_eval_dataloader(rows.select(range(whole)))

    def prediction_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        copies = 1 if self.alike else self.accelerator.num_processes
        rows, noted = _rows_in(inputs) * copies, self._metrics["eval"]
        before = {name: len(values) for name, values in noted.items()}
        loss, *rest = super().prediction_step(model, inputs, *args, **kwargs)
        for name, values in noted.items():
            new = values[before.get(name, 0) :]
            self._sums[name] += rows * sum(new)
            self._rows[name] += rows * len(new)
        self._sums["loss"] += rows * float(self.accelerator.reduce(loss, reduction="mean"))
        self._rows["loss"] += rows
        return (loss, *rest)

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        self._sums: dict[str, float] = defaultdict(float)
        self._rows: dict[str, float] = defaultdict(float)
        devices = [self.args.device] if self.args.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(self.args.seed + self.accelerator.process_index)
            output = super().evaluation_loop(*args, **kwargs)
            torch.manual_seed(self.args.seed)
            self._evaluate_rest()
        means = {name: total / self._rows[name] for name, total in self._sums.items() if self._rows[name]}
        output.metrics[f"{kwargs.get('metric_key_prefix', 'eval')}_loss"] = means.pop("loss")
        for name, mean in means.items():
            self._metrics["eval"][name] = [mean]
        return output

    def _evaluate_rest(self) -> None:
        """The rows that fill no batch on all processes: each process evaluates all of them."""
        rest, self._rest, size = self._rest, None, self.args.per_device_eval_batch_size
        self.model.eval()
        self.alike = True
        try:
            for start in range(0, len(rest) if rest is not None else 0, size):
                rows = [rest[i] for i in range(start, min(start + size, len(rest)))]
                self.prediction_step(self.model, self.data_collator(rows), True)
        finally:
            self.alike = False


def _rows_in(inputs: Any) -> int:
    """Rows of a batch as it comes from the loader: pairs are two sequences each."""
    return len(inputs["input_ids"]) // 2 if isinstance(inputs, Mapping) else len(inputs)


def per_row(base: type[Any]) -> type[Any]:
    """A trainer class whose evaluation gives means over rows; TRL gives the mean over batches, small or large.

    What is sampled in it is drawn with the run's seed, and the random state is as before afterwards: an evaluation
    can be repeated, and does not change how training goes on.
    """
    return type(base.__name__, (_PerRow, base), {})
