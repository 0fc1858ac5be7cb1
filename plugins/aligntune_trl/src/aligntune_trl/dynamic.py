"""Dynamic sampling: groups whose answers all earned the same are replaced by groups of other prompts.

Such a group has advantages of 0, so it adds nothing to the gradient and thins out the batch (DAPO: Yu et al. 2025,
arXiv:2503.14476, section 3.2, eq. 11). Two things are ours: the number of rounds is bounded, where the paper goes on
until the batch is full, and the weighted sum of all rewards decides, where the paper asks whether an answer is
correct; with correctness as the only reward the two are the same. A reward that tells long answers apart, as DAPO's
soft punishment does, makes a group of wrong answers useful, and it is kept.

Every process makes the same decisions from the same numbers: the rewards are gathered anyway, and the prompts to go
on with come from one seeded stream. So all take part in the same rounds, and in each generate the same number of
groups, as the collectives of TRL need it.
"""

from __future__ import annotations

import copy
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aligntune_core import ConfigError
from aligntune_core.rewards.values import ROW
from aligntune_trl.groups import exact_groups

STATE = "dynamic_sampling.json"
"""The file in a checkpoint with the stream's position."""

_FIELD = "dynamic_sampling_attempts"
_STREAM = 0xDA90  # so that the stream's order is not the sampler's, which is drawn from the same seed
_LEFT = frozenset({"prompt_ids", "prompt_mask"})
_RIGHT = {
    "completion_ids": 0.0, "completion_mask": 0.0, "advantages": 0.0, "old_per_token_logps": 0.0,
    "ref_per_token_logps": 0.0, "sampling_per_token_logps": 0.0, "tool_mask": 1.0, "importance_sampling_ratio": 1.0,
}  # fmt: skip
"""What has a column a token of the completion, and what TRL writes where there is none."""
_TOTAL = "num_items_in_batch"


class PromptStream:
    """The data's rows without end: one permutation after another, drawn from the seed, the same in every process.

    Attributes:
        position: how many rows have been passed.
    """

    def __init__(self, rows: Sequence[int], seed: int) -> None:
        self._rows, self._seed = rows, seed
        self._distinct = len(set(rows))
        self._lap, self._order = -1, np.empty(0, dtype=np.int64)
        self.position = 0

    def _next(self) -> int:
        lap, at = divmod(self.position, len(self._rows))
        if lap != self._lap:
            self._lap, self._order = lap, np.random.default_rng((_STREAM, self._seed, lap)).permutation(len(self._rows))
        self.position += 1
        return int(self._order[at])

    def take(self, most: int, seen: set[int], *, multiple_of: int = 1) -> list[int]:
        """The places in the data of the next rows that are not in `seen`, whose numbers are then in it.

        Args:
            most: how many are wanted; a multiple of `multiple_of`.
            seen: numbers of rows, each of them in the data.

        Returns:
            As many places as there are, cut to the multiple.
        """
        count = min(most, self._distinct - len(seen)) // multiple_of * multiple_of
        places: list[int] = []
        while len(places) < count:
            place = self._next()
            if self._rows[place] not in seen:
                seen.add(self._rows[place])
                places.append(place)
        return places


def check_mergeable(batch: Mapping[str, Any]) -> None:
    """Refuse rollouts that hold something whose rows cannot be exchanged, such as images.

    Raises:
        ConfigError: names it.
    """
    for name, value in batch.items():
        known = name == _TOTAL or name in _LEFT or name in _RIGHT or value is None
        if not known and not (isinstance(value, torch.Tensor) and value.ndim == 1):
            text = f"groups cannot be replaced in rollouts with {name}"
            raise ConfigError(text, f"set {_FIELD}: 0", field=_FIELD)


def _widened(tensor: torch.Tensor, width: int, fill: float, *, left: bool) -> torch.Tensor:
    missing = width - tensor.shape[1]
    return torch.nn.functional.pad(tensor, (missing, 0) if left else (0, missing), value=fill) if missing else tensor


def with_rows(
    batch: Mapping[str, Any], fresh: Mapping[str, Any], rows: Sequence[tuple[int, int]], pad_token: int
) -> dict[str, Any]:
    """A rollout in which some rows are those of another.

    Args:
        batch: the rollout, as TRL made it: prompts padded on the left, completions on the right.
        fresh: the other one; its prompts and completions may be longer or shorter.
        rows: the rows to replace, each with the row of `fresh` that takes its place.
        pad_token: what prompts and completions are padded with.

    Returns:
        A new dictionary. Its `num_items_in_batch` is still the old one.
    """
    merged = dict(batch)
    for name, kept in batch.items():
        if kept is None or kept.ndim == 0:
            continue
        other = fresh[name]
        if kept.ndim > 1:
            fill = float(pad_token) if name.endswith("_ids") else _RIGHT.get(name, 0.0)
            width = max(kept.shape[1], other.shape[1])
            kept, other = (_widened(tensor, width, fill, left=name in _LEFT) for tensor in (kept, other))
        to, source = (torch.tensor(numbers, device=kept.device) for numbers in zip(*rows, strict=True))
        merged[name] = kept.index_copy(0, to, other.index_select(0, source))
    return merged


def _true(flags: torch.Tensor) -> list[int]:
    found: list[int] = flags.nonzero().flatten().tolist()
    return found


def _numbers(trainer: Any) -> list[int]:
    """The numbers of the data's rows.

    Raises:
        ConfigError: what cannot be combined with the replacing of groups; core says so earlier.
    """
    text, aggregation = "replacing groups would change the advantages of all others", "multi_objective_aggregation"
    if trainer.scale_rewards == "batch":
        raise ConfigError(text, "set scale_rewards: group or none", field="scale_rewards", value=trainer.scale_rewards)
    if getattr(trainer, aggregation) != "sum_then_normalize":
        remedy = f"leave {aggregation} out, or set {_FIELD}: 0"
        raise ConfigError(text, remedy, field="backend_options", value=getattr(trainer, aggregation))
    if not hasattr(trainer.train_dataset, "__len__"):
        raise ConfigError("other prompts cannot be drawn from streamed rows", f"set {_FIELD}: 0", field=_FIELD)
    return [int(number) for number in trainer.train_dataset[ROW]]


_Trainer: Any = object  # TRL's class, which comes beneath when it is known


class _DynamicSampling(_Trainer):  # type: ignore[misc]
    """What `with_dynamic_sampling` puts on top of a trainer class."""

    attempts: int
    _metrics: dict[str, dict[str, list[float]]]
    _logs: dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._other_prompts = PromptStream(_numbers(self), self.args.seed)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        if not self.model.training:
            evaluated: dict[str, Any] = super()._generate_and_score_completions(inputs)
            return evaluated
        position = self._other_prompts.position
        try:
            return self._sampled(inputs)
        except BaseException:  # whoever saves the state after that goes back to before this rollout
            self._other_prompts.position = position
            raise

    def _sampled(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = super()._generate_and_score_completions(inputs)
        check_mergeable(batch)
        flat = self._flat_groups()
        flat_at_first, rounds = flat.sum().item(), 0
        seen = self._rows_of_all(inputs)
        while rounds < self.attempts and (places := self._places(flat, seen)):
            batch = self._exchanged(batch, places, flat)
            rounds += 1
        if rounds:
            batch[_TOTAL] = self._tokens_of_all(batch)
        self._tell(flat, flat_at_first, rounds)
        return batch

    def _flat_groups(self) -> torch.Tensor:
        """Of the draw just scored, shape (processes, groups a process)."""
        flat: torch.Tensor = self.flat_groups()
        return flat.view(self.accelerator.num_processes, -1)

    def _rows_of_all(self, inputs: list[dict[str, Any]]) -> set[int]:
        rows = torch.tensor([row[ROW] for row in inputs], device=self.accelerator.device)
        if len(rows) % self.num_generations or (rows.view(-1, self.num_generations).diff(dim=1) != 0).any():
            text, remedy = "a group is cut in two between processes", "batch_size x steps_per_generation must be"
            remedy = f"{remedy} a multiple of num_generations = {self.num_generations}"
            raise ConfigError(text, remedy, field="num_generations", value=self.num_generations)
        return set(self.accelerator.gather(rows).tolist())

    def _places(self, flat: torch.Tensor, seen: set[int]) -> list[int]:
        """The places in the data of this process's next prompts; none where no process needs any."""
        count = self.accelerator.num_processes
        places = self._other_prompts.take(int(flat.sum(dim=1).max()) * count, seen, multiple_of=count)
        share = len(places) // count
        return places[self.accelerator.process_index * share :][:share]

    def _exchanged(self, batch: dict[str, Any], places: list[int], flat: torch.Tensor) -> dict[str, Any]:
        """One round. Takes note in `flat`, of all processes, of what is no longer flat."""
        inputs = [dict(self.train_dataset[place]) for place in places for _ in range(self.num_generations)]
        with self._only_tokens_count():
            fresh = super()._generate_and_score_completions(inputs)
        useful, size, exchanged = ~self._flat_groups(), self.num_generations, []
        for process, (lacking, found) in enumerate(zip(flat.clone(), useful, strict=True)):
            pairs = list(zip(_true(lacking), _true(found), strict=False))
            flat[process, [group for group, _ in pairs]] = False
            if process == self.accelerator.process_index:
                exchanged = [(to * size + i, source * size + i) for to, source in pairs for i in range(size)]
        return with_rows(batch, fresh, exchanged, self._tokenizer.pad_token_id) if exchanged else batch

    @contextmanager
    def _only_tokens_count(self) -> Iterator[None]:
        """Let TRL log into the void; what it counts in the trainer's state stays."""
        metrics, logs = self._metrics["train"], self._logs
        self._metrics["train"], self._logs = defaultdict(list), copy.deepcopy(logs)
        try:
            yield
        finally:
            self._metrics["train"], self._logs = metrics, logs
            metrics["num_tokens"] = [self.state.num_input_tokens_seen]

    def _tokens_of_all(self, batch: Mapping[str, Any]) -> torch.Tensor:
        mask = batch["completion_mask"]
        mask = mask * batch["tool_mask"] if batch.get("tool_mask") is not None else mask
        total: torch.Tensor = self.accelerator.gather(mask.sum()).sum()
        return total

    def _tell(self, flat: torch.Tensor, flat_at_first: float, rounds: int) -> None:
        metrics = self._metrics["train"]
        metrics["frac_reward_zero_std"][-1:] = [flat.float().mean().item()]
        metrics["dynamic_sampling/replaced"].append((flat_at_first - flat.sum().item()) / flat.numel())
        metrics["dynamic_sampling/rounds"].append(float(rounds))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.args.should_save:
            folder = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}"
            (folder / STATE).write_text(json.dumps({"position": self._other_prompts.position}), "utf-8")

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and (Path(checkpoint) / STATE).is_file():
            self._other_prompts.position = json.loads((Path(checkpoint) / STATE).read_text("utf-8"))["position"]


def with_dynamic_sampling(base: type[Any], attempts: int) -> type[Any]:
    """A trainer class that replaces flat groups by groups of other prompts, for at most `attempts` rounds.

    In a round every process generates as many groups as the one that lacks most, of prompts that are not in the
    rollout yet, and takes what it needs of those that are not flat. It ends when no group is flat, or when the data
    has no more prompts.

    Metrics: `dynamic_sampling/replaced`, the share of groups replaced; `dynamic_sampling/rounds`;
    `frac_reward_zero_std`, the share still flat. All others, and the table of completions, are of the first draw,
    which tells what the policy does; later draws are chosen by their rewards. Tokens are counted in all rounds.

    Args:
        base: TRL's `GRPOTrainer`, or a class made from it. Its data set has the column `aligntune_row`, and each
            process's rollout holds whole groups.
        attempts: with 0 no group is replaced; those that are flat have advantages of exactly 0 all the same.

    Raises:
        ConfigError: from the class's constructor for settings that cannot be combined with it, and from a rollout
            that holds images or groups cut in two.
    """
    exact = exact_groups(base)
    if attempts == 0:
        return exact
    return type(base.__name__, (_DynamicSampling, exact), {"attempts": attempts, "__qualname__": base.__qualname__})
