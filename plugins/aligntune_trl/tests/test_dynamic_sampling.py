"""Groups whose answers all earn the same are replaced by groups of other prompts; without such, TRL is untouched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Collection
from typing import Any

import pytest
import torch
import trl
from aligntune_trl.dynamic import (
    STATE,
    PromptStream,
    check_mergeable,
    with_dynamic_sampling,
    with_rows,
)
from aligntune_trl.groups import flat_groups
from datasets import Dataset, IterableDataset
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

from aligntune_core import ConfigError
from aligntune_core.rewards.values import ROW

from .results import same

GROUP, GROUPS = 2, 4  # answers a prompt, prompts a rollout
NAN = float("nan")
Reward = Callable[..., list[float | None]]


def prompts(count: int) -> Dataset:
    """Rows with numbers that are not their places, as after filtering, and prompts of different lengths."""
    rows = [{"prompt": f"{10 * i}:" + " what" * (i % 5), ROW: 10 * i} for i in range(count)]
    return Dataset.from_list(rows)


def reward_that_fails(hopeless: Collection[int], drawn: list[list[int]] | None = None) -> Reward:
    """0.1 for every answer to some prompts, 0 and 1 in turn for the others; keeps which prompts each draw had."""

    def reward(aligntune_row: list[int], **kwargs: Any) -> list[float | None]:
        if drawn is not None:
            drawn.append(aligntune_row[::GROUP])
        return [0.1 if row in hopeless else float(i % 2) for i, row in enumerate(aligntune_row)]

    return reward


def reward_of_letters(completions: list[str], aligntune_row: list[int], **kwargs: Any) -> list[float | None]:
    """Depends on what the model wrote; no answer to every third prompt is scored."""
    rows = zip(completions, aligntune_row, strict=True)
    return [None if row % 30 == 0 else float(len(set(text)) % 4) for text, row in rows]


@pytest.fixture
def make(tiny, tmp_path):
    """A trainer with dynamic sampling over TRL's own; it keeps every rollout in `rollouts`."""

    def build(rows: Dataset, reward: Reward, attempts: int, *, base: Any = None, **settings: Any) -> Any:
        class Keeping(with_dynamic_sampling(base or trl.GRPOTrainer, attempts)):  # type: ignore[misc]
            def _generate_and_score_completions(self, inputs):
                batch = super()._generate_and_score_completions(inputs)
                self.rollouts.append(batch)
                return batch

        defaults: dict[str, Any] = {
            "output_dir": str(tmp_path / "out"), "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2,
            "num_generations": GROUP, "max_completion_length": 6, "learning_rate": 1e-3, "beta": 0.0,
            "loss_type": "dapo", "epsilon_high": 0.28, "logging_steps": 1, "save_strategy": "no", "report_to": "none",
            "bf16": False, "use_cpu": True, "disable_tqdm": True, "gradient_checkpointing": False, "max_steps": 1,
            "dataloader_pin_memory": False, "seed": 42,
        }  # fmt: skip
        set_seed(42)
        Keeping.rollouts = []
        return Keeping(
            model=str(tiny),
            reward_funcs=reward,
            args=trl.GRPOConfig(**{"model_init_kwargs": {"dtype": "float32"}, **defaults, **settings}),
            train_dataset=rows,
            processing_class=AutoTokenizer.from_pretrained(tiny),
        )

    return build


def weights(trainer: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trainer.model.state_dict().items()}


def rows_of(batch: dict[str, Any], tokenizer: Any) -> list[int]:
    """The number of each row, read from its prompt."""
    prompts = zip(batch["prompt_ids"], batch["prompt_mask"], strict=True)
    texts = [tokenizer.decode(ids[mask.bool()]) for ids, mask in prompts]
    return [int(text.split(":")[0]) for text in texts]


def logged(trainer: Any, name: str) -> list[float]:
    return [row[name] for row in trainer.state.log_history if name in row]


def test_a_group_is_flat_where_no_answer_earned_more_than_another():
    groups = torch.tensor(
        [
            [[0.3, 0.4], [0.7, 0.0], [0.4, 0.3]],  # equal sums, up to rounding
            [[1.0, NAN], [NAN, 1.0], [NAN, NAN]],  # the third was not scored
            [[NAN, NAN], [NAN, NAN], [NAN, NAN]],
            [[NAN, NAN], [NAN, NAN], [0.5, NAN]],  # nothing to compare with
            [[0.0, 0.0], [0.0, 0.0], [0.0, 1e-4]],
            [[1.0, NAN], [1.0, NAN], [1.0, 0.5]],
        ]
    )
    flat = flat_groups(groups.view(-1, 2), torch.tensor([1.0, 1.0]), 3)
    assert flat.tolist() == [True, True, True, True, False, False]
    assert flat_groups(groups.view(-1, 2), torch.tensor([1.0, 0.0]), 3).tolist() == [
        False,
        False,
        True,
        True,
        True,
        True,
    ]


def test_no_flat_group_is_left_while_there_are_other_prompts(make):
    rows, drawn = prompts(24), []
    hopeless = {row for row in rows[ROW] if row % 30}  # two thirds
    trainer = make(rows, reward_that_fails(hopeless, drawn), 10, max_steps=4)
    trainer.train()
    tokenizer = trainer.processing_class
    assert len(trainer.rollouts) == 4
    for batch in trainer.rollouts:
        groups = rows_of(batch, tokenizer)[::GROUP]
        assert sorted(rows_of(batch, tokenizer)) == sorted(groups * GROUP)
        assert len(set(groups)) == GROUPS
        assert not hopeless & set(groups)
        assert (batch["advantages"] != 0).all()
    assert logged(trainer, "frac_reward_zero_std") == [0.0] * 4
    assert len(drawn) > 4


def test_the_groups_drawn_for_a_rollout_are_all_of_different_prompts(make):
    rows, drawn = prompts(24), []
    trainer = make(rows, reward_that_fails(rows[ROW], drawn), 3)
    trainer.train()
    tried = [row for draw in drawn for row in draw]
    assert len(tried) == len(set(tried)) == 4 * GROUPS


def test_only_flat_groups_are_replaced(make):
    rows, drawn = prompts(24), []
    hopeless = {row for row in rows[ROW] if row % 20}
    trainer = make(rows, reward_that_fails(hopeless, drawn), 10)
    trainer.train()
    found = rows_of(trainer.rollouts[0], trainer.processing_class)[::GROUP]
    kept = [row for row in drawn[0] if row not in hopeless]
    assert 0 < len(kept) < GROUPS
    assert [row for row in found if row in drawn[0]] == kept
    assert logged(trainer, "dynamic_sampling/replaced") == [1 - len(kept) / GROUPS]
    assert logged(trainer, "dynamic_sampling/rounds") == [len(drawn) - 1]


@pytest.mark.parametrize("attempts", [1, 3])
def test_attempts_are_bounded_and_a_rollout_without_signal_changes_no_weight(make, attempts):
    """The rewards are all 0.1, whose mean is not 0.1 in single precision: TRL's advantages would not be 0."""
    rows, drawn = prompts(200), []
    trainer = make(
        rows, reward_that_fails(rows[ROW], drawn), attempts, max_steps=2, num_generations=8,
        per_device_train_batch_size=8,
    )  # fmt: skip
    before = weights(trainer)
    trainer.train()
    assert len(drawn) == 2 * (1 + attempts)
    assert same(weights(trainer), before)
    assert logged(trainer, "frac_reward_zero_std") == [1.0, 1.0]
    assert logged(trainer, "dynamic_sampling/replaced") == [0.0, 0.0]
    assert logged(trainer, "dynamic_sampling/rounds") == [attempts] * 2


@pytest.mark.parametrize(("count", "draws"), [(4, [4]), (6, [4, 2]), (9, [4, 4, 1])])
def test_sampling_stops_when_the_data_has_no_other_prompts(make, count, draws):
    rows, drawn = prompts(count), []
    make(rows, reward_that_fails(rows[ROW], drawn), 5).train()
    assert [len(draw) for draw in drawn] == draws


def test_metrics_are_those_of_the_first_draw_and_tokens_those_of_all(make, tmp_path):
    rows, lengths = prompts(24), []
    fails = reward_that_fails({row for row in rows[ROW] if row % 30})

    def reward(prompts, completion_ids, log_metric, log_extra, **kwargs):
        log_metric("mine", float(kwargs[ROW][0]))
        log_extra("number", kwargs[ROW])
        lengths.append(sum(len(ids) for ids in (*completion_ids, *tokenizer(prompts).input_ids)))
        return fails(**kwargs)

    dynamic = make(rows, reward, 10)
    tokenizer = dynamic.processing_class
    dynamic.train()
    tokens = sum(lengths)
    plain = make(rows, reward, 0)
    plain.train()
    now, then = dynamic.state.log_history[0], plain.state.log_history[0]
    assert dynamic.state.num_input_tokens_seen == now["num_tokens"] == tokens > then["num_tokens"]
    first = ("reward", "reward_std", "mine", *(name for name in then if name.startswith(("completions/", "rewards/"))))
    assert len(first) > 8
    assert {name: now[name] for name in first} == {name: then[name] for name in first}
    assert dynamic._logs == plain._logs
    assert len(dynamic._logs["prompt"]) == len(dynamic._logs["extra"]["number"]) == GROUP * GROUPS


def test_every_row_of_a_merged_rollout_keeps_its_own_tokens_and_log_probabilities(make, tiny):
    rows = prompts(40)
    trainer = make(
        rows, reward_that_fails({row for row in rows[ROW] if row % 30}), 10, beta=0.1, steps_per_generation=2,
        gradient_accumulation_steps=1, generation_kwargs={"eos_token_id": list(range(300))},
    )  # fmt: skip
    trainer.model.train()
    batch = trainer._generate_and_score_completions([rows[i] for i in (1, 2, 3, 4) for _ in range(GROUP)])
    assert trainer._metrics["train"]["dynamic_sampling/rounds"][-1] >= 2
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    alone = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    assert len({int(row) for row in batch["completion_mask"].sum(1)}) > 1  # or padding would not be tested
    for i, (row, keep) in enumerate(zip(ids, mask.bool(), strict=True)):
        length = int(batch["completion_mask"][i].sum())
        with torch.no_grad():
            picked = alone(row[keep][None]).logits[0, :-1].log_softmax(-1).gather(1, row[keep][1:, None])[-length:, 0]
        for name in ("old_per_token_logps", "ref_per_token_logps"):
            torch.testing.assert_close(batch[name][i, :length], picked, atol=2e-5, rtol=1e-5)
    assert int(batch["num_items_in_batch"]) == int(batch["completion_mask"].sum())
    expected = [[-1.0, 1.0]] * GROUPS
    torch.testing.assert_close(batch["advantages"].view(-1, GROUP) * 2**0.5, torch.tensor(expected), atol=1e-3, rtol=0)


def test_evaluation_draws_once(make):
    rows, drawn = prompts(8), []
    trainer = make(rows, reward_that_fails(rows[ROW], drawn), 5, per_device_eval_batch_size=8)
    trainer.eval_dataset = rows.select(range(4))
    trainer.evaluate()
    assert len(drawn) == 1


def test_the_subclass_beneath_is_asked_in_every_round(make):
    calls = []

    class Beneath(trl.GRPOTrainer):
        def _generate_and_score_completions(self, inputs):
            calls.append(len(inputs))
            return super()._generate_and_score_completions(inputs)

    rows = prompts(24)
    make(rows, reward_that_fails(rows[ROW]), 2, base=Beneath).train()
    assert calls == [GROUP * GROUPS] * 3


def test_a_rollout_that_fails_leaves_the_stream_and_the_logs_as_they_were(make):
    rows, drawn = prompts(24), []
    fails = reward_that_fails(rows[ROW], drawn)

    def reward(**kwargs):
        if len(drawn) == 5:
            raise RuntimeError("the second rollout's third draw")
        return fails(**kwargs)

    trainer = make(rows, reward, 2, max_steps=3)
    with pytest.raises(RuntimeError, match="third draw"):
        trainer.train()
    assert len(trainer.rollouts) == 1
    stream = PromptStream(rows[ROW], trainer.args.seed)
    seen = set(drawn[0])
    for draw in drawn[1:3]:
        assert [rows[ROW][place] for place in stream.take(GROUPS, seen)] == draw
    assert trainer._other_prompts.position == stream.position
    assert logged(trainer, "dynamic_sampling/rounds") == [2]
    assert trainer._metrics["train"]["reward"] == [pytest.approx(0.1)]  # the second rollout's first draw, no other


def test_a_resumed_run_ends_bit_identical(make, tmp_path):
    """Three rollouts, two steps on each, and checkpoints where a rollout ends."""
    rows = prompts(12)
    settings: dict[str, Any] = {
        "max_steps": 6, "steps_per_generation": 2, "gradient_accumulation_steps": 1, "save_strategy": "steps",
        "save_steps": 2,
    }  # fmt: skip
    whole = make(rows, reward_of_letters, 3, **settings)
    whole.train()
    assert sum(logged(whole, "dynamic_sampling/replaced")) > 0
    positions = [
        json.loads((tmp_path / "out" / f"checkpoint-{step}" / STATE).read_text())["position"] for step in (2, 4, 6)
    ]
    assert 0 < positions[0] < positions[1] < positions[2] == whole._other_prompts.position
    for step in (2, 4):
        resumed = make(rows, reward_of_letters, 3, **settings)
        resumed.train(resume_from_checkpoint=str(tmp_path / "out" / f"checkpoint-{step}"))
        assert resumed._other_prompts.position == positions[2]
        assert same(weights(resumed), weights(whole))


def test_attempts_of_zero_are_no_rounds_and_leave_flat_groups_without_effect(make):
    rows, drawn = prompts(8), []
    trainer = make(rows, reward_that_fails(rows[ROW], drawn), 0, max_steps=2, num_generations=8)
    before = weights(trainer)
    trainer.train()
    assert len(drawn) == 2
    assert same(weights(trainer), before)


def test_without_flat_groups_training_is_trl_bit_for_bit(make):
    rows, drawn = prompts(24), []
    plain = make(rows, reward_that_fails((), drawn), 0, max_steps=3)
    plain.train()
    dynamic = make(rows, reward_that_fails((), drawn), 5, max_steps=3)
    before = weights(dynamic)
    dynamic.train()
    assert len(drawn) == 6
    assert same(weights(dynamic), weights(plain))
    assert not same(weights(dynamic), before)
    assert logged(dynamic, "dynamic_sampling/replaced") == [0.0] * 3


def test_the_stream_is_one_permutation_after_another_and_goes_on_from_its_position():
    stream = PromptStream(range(0, 70, 10), seed=3)
    laps = [stream.take(7, set()) for _ in range(3)]
    assert [sorted(lap) for lap in laps] == [list(range(7))] * 3
    assert laps[0] != laps[1] != laps[2]
    again = PromptStream(range(0, 70, 10), seed=3)
    again.position = 7
    assert again.take(7, set()) == laps[1]
    assert PromptStream(range(0, 70, 10), seed=4).take(7, set()) != laps[0]


def test_the_stream_passes_over_what_was_seen_and_gives_every_process_the_same_share():
    seen = {0, 10, 20}
    stream = PromptStream(range(0, 70, 10), seed=3)
    assert set(stream.take(3, seen)) < {3, 4, 5, 6}
    assert len(seen) == 6
    assert stream.take(4, set(seen), multiple_of=2) == []
    assert len(stream.take(4, set(seen))) == 1


def test_rows_of_another_width_are_padded_as_trl_pads():
    batch = {
        "prompt_ids": torch.tensor([[1, 2], [3, 4]]), "prompt_mask": torch.tensor([[1, 1], [1, 1]]),
        "completion_ids": torch.tensor([[5, 6, 7], [8, 9, 10]]), "completion_mask": torch.ones(2, 3, dtype=torch.int64),
        "advantages": torch.tensor([0.0, 1.0]), "old_per_token_logps": torch.tensor([[-1.0, -2, -3], [-4, -5, -6]]),
        "tool_mask": torch.tensor([[1, 0, 1], [1, 1, 1]]), "importance_sampling_ratio": torch.tensor([[0.5], [0.6]]),
        "num_items_in_batch": torch.tensor(6),
    }  # fmt: skip
    fresh = {
        "prompt_ids": torch.tensor([[11, 12, 13]]), "prompt_mask": torch.tensor([[1, 1, 1]]),
        "completion_ids": torch.tensor([[14, 15]]), "completion_mask": torch.tensor([[1, 1]]),
        "advantages": torch.tensor([-1.0]), "old_per_token_logps": torch.tensor([[-7.0, -8]]),
        "tool_mask": torch.tensor([[1, 0]]), "importance_sampling_ratio": torch.tensor([[0.7]]),
        "num_items_in_batch": torch.tensor(2),
    }  # fmt: skip
    merged = with_rows(batch, fresh, [(0, 0)], pad_token=99)
    assert {name: value.tolist() for name, value in merged.items()} == {
        "prompt_ids": [[11, 12, 13], [99, 3, 4]], "prompt_mask": [[1, 1, 1], [0, 1, 1]],
        "completion_ids": [[14, 15, 99], [8, 9, 10]], "completion_mask": [[1, 1, 0], [1, 1, 1]],
        "advantages": [-1.0, 1.0], "old_per_token_logps": [[-7, -8, 0], [-4, -5, -6]],
        "tool_mask": [[1, 0, 1], [1, 1, 1]], "importance_sampling_ratio": [[pytest.approx(0.7)], [pytest.approx(0.6)]],
        "num_items_in_batch": 6,
    }  # fmt: skip


@pytest.mark.parametrize("value", [torch.zeros(2, 3), [1, 2], torch.tensor(3)], ids=["tensor", "list", "number"])
def test_rollouts_with_what_cannot_be_exchanged_are_refused(value):
    check_mergeable({"prompt_ids": torch.zeros(2, 3), "tool_mask": None, "scores": torch.zeros(2)})
    with pytest.raises(ConfigError, match="pixel_values; set dynamic_sampling_attempts: 0"):
        check_mergeable({"prompt_ids": torch.zeros(2, 3), "pixel_values": value})


def test_what_depends_on_the_whole_batch_is_refused(make):
    with pytest.raises(ConfigError, match="scale_rewards = 'batch': replacing groups would change the advantages"):
        make(prompts(8), reward_of_letters, 1, scale_rewards="batch")


def test_streamed_rows_are_refused(make):
    rows = prompts(8).to_iterable_dataset()
    assert isinstance(rows, IterableDataset)
    with pytest.raises(ConfigError, match="other prompts cannot be drawn from streamed rows"):
        make(rows, reward_of_letters, 1)


def test_a_group_that_is_cut_in_two_is_refused(make):
    trainer = make(prompts(8), reward_of_letters, 1)
    trainer.model.train()
    inputs = [trainer.train_dataset[i] for i in (0, 1, 1, 2)]
    with pytest.raises(ConfigError, match="num_generations = 2: a group is cut in two between processes"):
        trainer._generate_and_score_completions(inputs)


TWO = """
import json, sys
from pathlib import Path
from aligntune_trl.quiet import hush
hush()
import torch, trl
from aligntune_trl.dynamic import with_dynamic_sampling
from datasets import Dataset
from transformers import AutoTokenizer, set_seed

tiny, out = sys.argv[1:]
rows = [{"prompt": f"{i}:" + " what" * (i % 5), "aligntune_row": i} for i in range(40)]
drawn = []

def reward(aligntune_row, completion_ids, **kwargs):
    drawn.append(aligntune_row[::2])
    return [0.1 if row % 4 else float(i % 2 + len(completion_ids[i]) % 2) for i, row in enumerate(aligntune_row)]

class Keeping(with_dynamic_sampling(trl.GRPOTrainer, 6)):
    def _generate_and_score_completions(self, inputs):
        batch = super()._generate_and_score_completions(inputs)
        texts = self.processing_class.batch_decode(batch["prompt_ids"], skip_special_tokens=True)
        kept.append({
            "rows": [int(text.split(":")[0]) for text in texts][::2],
            "tokens": int(batch["completion_mask"].sum()), "items": int(batch["num_items_in_batch"]),
            "rounds": self._metrics["train"]["dynamic_sampling/rounds"][-1],
            "replaced": self._metrics["train"]["dynamic_sampling/replaced"][-1],
            "useful": batch["advantages"].view(-1, 2).abs().sum(1).ne(0).tolist(),
        })
        return batch

kept = []
set_seed(1)
trainer = Keeping(
    model=tiny, reward_funcs=reward, train_dataset=Dataset.from_list(rows),
    processing_class=AutoTokenizer.from_pretrained(tiny),
    args=trl.GRPOConfig(
        output_dir=out, per_device_train_batch_size=4, gradient_accumulation_steps=2, num_generations=2,
        max_completion_length=6, learning_rate=1e-3, beta=0.0, loss_type="dapo", logging_steps=1, save_steps=2,
        report_to="none", bf16=False, use_cpu=True, disable_tqdm=True, gradient_checkpointing=False, max_steps=2,
        dataloader_pin_memory=False, seed=1, model_init_kwargs={"dtype": "float32"}, save_strategy="steps",
        generation_kwargs={"eos_token_id": list(range(300))},
    ),
)
trainer.train()
told = {"rollouts": kept, "draws": drawn, "position": trainer._other_prompts.position}
Path(out, f"rank{trainer.accelerator.process_index}.json").write_text(json.dumps(told))
torch.distributed.destroy_process_group()
"""


@pytest.mark.heavy
def test_two_processes_take_the_same_rounds_and_fill_up_together(tiny, tmp_path):
    script = tmp_path / "two.py"
    script.write_text(TWO)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launch, str(script), str(tiny), str(tmp_path / "out")],
        capture_output=True, text=True, check=False, timeout=240, cwd=tmp_path,
        env=dict(os.environ) | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    one, two = (json.loads((tmp_path / "out" / f"rank{rank}.json").read_text()) for rank in (0, 1))
    assert [len(draw) for draw in one["draws"]] == [len(draw) for draw in two["draws"]]
    saved = json.loads((tmp_path / "out" / "checkpoint-2" / STATE).read_text())["position"]
    assert one["position"] == two["position"] == saved > 0
    assert len(one["rollouts"]) == len(two["rollouts"]) == 2
    for left, right in zip(one["rollouts"], two["rollouts"], strict=True):
        rows = left["rows"] + right["rows"]
        assert len(left["rows"]) == len(right["rows"]) == GROUPS
        assert len(set(rows)) == 2 * GROUPS
        assert left["rounds"] == right["rounds"] > 1
        assert left["replaced"] == right["replaced"] > 0
        assert left["items"] == right["items"] == left["tokens"] + right["tokens"]
        useful = left["useful"] + right["useful"]
        assert all(row % 4 == 0 or not moves for row, moves in zip(rows, useful, strict=True))
