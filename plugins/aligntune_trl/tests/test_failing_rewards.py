"""Rewards in whole runs: one that fails costs no state, one that says nothing teaches nothing, all see the rows."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aligntune_trl.tiny import write_tiny_model
from safetensors.torch import load_file

from aligntune import Trainer, create_rl_trainer
from aligntune_core import RewardError, text_of
from aligntune_core.cli.main import run
from aligntune_core.runs.checkpoints import damage
from aligntune_core.runs.folder import read_run
from aligntune_core.runs.metrics import read

from .marks import heavy
from .results import final_weights, same

Misbehave = Callable[[list[Any], list[int]], Any]
ROWS = [{"prompt": f"{n} + {n % 3}? ", "number": n, "answer": str(n + n % 3)} for n in range(1, 13)]
PRESETS: dict[str, dict[str, Any]] = {
    "grpo": {"num_generations": 2},
    "gspo": {"num_generations": 2, "steps_per_generation": 2},
    "dr_grpo": {"num_generations": 2},
    "dapo": {"num_generations": 2, "mask_truncated_completions": False, "overlong_cache": 0},
    "ppo": {"num_iterations": 2, "critic": "head"},
}
"""What is set so that little is computed; an untrained model ends no answer, so DAPO must not mask those."""


def worth(completions: list[Any]) -> list[float]:
    """A score that tells many answers apart, and not all."""
    return [float(len(set(text_of(completion))) % 3) for completion in completions]


class Judge:
    """A reward that is the same for all answers to two thirds of the prompts, and may misbehave.

    Args:
        at: the step after which it misbehaves.
        misbehave: what it does then.
        call: in which call of that step; dynamic sampling makes several.
    """

    def __init__(self, at: int = -1, misbehave: Misbehave | None = None, call: int = 1) -> None:
        self.at, self.misbehave, self.call = at, misbehave, call
        self.calls: list[list[int]] = []
        self._steps: list[int] = []

    def __call__(self, completions: list[Any], number: list[int], trainer_state: Any) -> Any:
        self.calls.append(number)
        self._steps.append(trainer_state.global_step)
        if self.misbehave and trainer_state.global_step == self.at and self._steps.count(self.at) == self.call:
            return self.misbehave(completions, number)
        return [0.0 if row % 3 else score for row, score in zip(number, worth(completions), strict=True)]


@pytest.fixture(autouse=True)
def no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The charts of fifty reports would take most of the time; the subprocesses below draw theirs."""
    monkeypatch.setattr(Trainer, "write_report", lambda trainer: None)


@pytest.fixture
def start(tiny: Path, tmp_path: Path) -> Callable[..., Trainer]:
    """A trainer of any of the algorithms on the tiny model; any setting may be given."""

    def build(algorithm: str, *rewards: Any, run: str = "run", **settings: Any) -> Trainer:
        defaults: dict[str, Any] = {
            "backend": "trl", "model_name": str(tiny), "output_dir": str(tmp_path / run), "batch_size": 4,
            "gradient_accumulation_steps": 1, "max_completion_length": 4, "learning_rate": 1e-3, "warmup_steps": 0,
            "lr_scheduler": "constant", "logging_steps": 1, "max_steps": 4, "train_dataset": ROWS,
            "reward_functions": list(rewards), **PRESETS[algorithm],
        }  # fmt: skip
        trainer = create_rl_trainer(algorithm=algorithm, **{**defaults, **settings})
        trainer.listen()
        return trainer

    return build


# a reward that fails


def raising(completions: list[Any], number: list[int]) -> Any:
    return {}["answer"]


def hanging(completions: list[Any], number: list[int]) -> Any:
    time.sleep(1.5)
    return worth(completions)


def exiting(completions: list[Any], number: list[int]) -> Any:
    sys.exit(0)


def one_bad(value: Any) -> Misbehave:
    """A result whose third value is bad."""
    return lambda completions, number: [0.0, 1.0, value, *worth(completions)[3:]]


BATCH = r"in a batch of rows [\d, ]+: "
MISBEHAVIOURS: dict[str, tuple[Misbehave, str]] = {
    "raises": (raising, BATCH + r"it raised KeyError: 'answer' \(test_failing_rewards.py:\d+\)"),
    "hangs": (hanging, BATCH + r"it took longer than 0.5 s; raise reward_timeout"),
    "ends the process": (exiting, BATCH + r"it tried to end the process: SystemExit: 0; let the function return"),
    "gives too few": (lambda completions, number: [1.0], BATCH + r"it gave 1 values for 4 completions"),
    "gives a mapping": (lambda completions, number: dict.fromkeys(range(4), 1.0), BATCH + r"it gave a mapping"),
    "gives text": (one_bad("good"), r"row \d+: it gave text instead of a number"),
    "gives no number": (one_bad(float("nan")), r"row \d+: it gave nan"),
}
CASES = [
    *[("grpo", how, 2) for how in MISBEHAVIOURS],
    *[("dapo", how, 2) for how in ("gives no number", "raises")],
    *[("ppo", how, 4) for how in ("ends the process", "gives text")],
]
"""Algorithm, what happens, and the steps that are done when the third rollout is made."""
FAST = {
    ("grpo", "raises"),
    ("grpo", "hangs"),
    ("dapo", "gives no number"),
    ("ppo", "ends the process"),
}


@pytest.fixture(scope="module")
def unfailing(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of a run whose reward never failed; each is made once."""
    runs: dict[str, Path] = {}

    def folder(start: Callable[..., Trainer], algorithm: str, **settings: Any) -> Path:
        if algorithm not in runs:
            runs[algorithm] = tmp_path_factory.mktemp(algorithm) / "whole"
            start(algorithm, Judge(), output_dir=str(runs[algorithm]), **settings).train()
        return runs[algorithm]

    return folder


@pytest.mark.parametrize(
    ("algorithm", "how", "steps"),
    [(pytest.param if case[:2] in FAST else heavy)(*case, id=", ".join(case[:2])) for case in CASES],
)
def test_a_reward_that_fails_costs_no_state_and_once_mended_the_run_ends_as_if_it_never_had(
    start, unfailing, algorithm, how, steps
):
    misbehave, message = MISBEHAVIOURS[how]
    judge = Judge(at=steps, misbehave=misbehave, call=2 if algorithm == "dapo" else 1)
    settings = {"max_steps": steps + 2}
    trainer = start(algorithm, judge, **settings, **({"reward_timeout": 0.5} if how == "hangs" else {}))
    with pytest.raises(RewardError, match=f"^reward = 'Judge': {message}") as caught:
        trainer.train()
    assert caught.value.exit_code == 4
    named = [int(n) for n in re.findall(r"\d+", re.match(r".*?rows? ([\d, ]+):", str(caught.value))[1])]
    failed = judge.calls[-1]
    assert named == ([failed[2]] if "a batch" not in str(caught.value) else list(dict.fromkeys(failed)))
    run = read_run(trainer.run_dir)
    assert (run["status"], run["steps_done"], run["error"]) == ("failed", steps, str(caught.value))
    assert [c.name for c in trainer.run_dir.glob("checkpoint-*")] == [f"checkpoint-{steps}"]
    assert damage(trainer.run_dir / f"checkpoint-{steps}") is None
    assert not (trainer.run_dir / "model").exists()
    trainer.close()

    mended = start(algorithm, Judge(), resume=True, **settings, **({"reward_timeout": 0.5} if how == "hangs" else {}))
    assert mended.train().steps == steps + 2
    whole = unfailing(start, algorithm, **settings)
    assert same(final_weights(mended.run_dir), final_weights(whole))
    keep = ("step", "loss", "reward", "grad_norm", "num_tokens", "dynamic_sampling/rounds")
    rows = [[{k: row.get(k) for k in keep} for row in read(d / "metrics.jsonl")] for d in (mended.run_dir, whole)]
    assert rows[0] == rows[1]


def test_the_run_with_dynamic_sampling_did_draw_again_and_went_on_learning(start, unfailing):
    folder = unfailing(start, "dapo", max_steps=4)
    rounds = [row["dynamic_sampling/rounds"] for row in read(folder / "metrics.jsonl")]
    assert rounds[2] > 0
    assert any(row["grad_norm"] > 0 for row in read(folder / "metrics.jsonl"))


def test_where_nothing_was_trained_yet_nothing_is_saved(start):
    trainer = start("grpo", Judge(at=0, misbehave=raising))
    with pytest.raises(RewardError):
        trainer.train()
    assert not list(trainer.run_dir.glob("checkpoint-*"))
    assert read_run(trainer.run_dir)["status"] == "failed"


REWARD_FILE = """
import os

def score(completions, trainer_state):
    {misbehave}
    return [float(len(set(completion)) % 3) for completion in completions]
"""


def clean_environment(home: Path) -> dict[str, str]:
    return os.environ | {"HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def command_line(tiny: Path, folder: Path, misbehave: str, **settings: Any) -> list[str]:
    """Write the files of a run in a folder; the command that starts it there."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    (folder / "score.py").write_text(REWARD_FILE.format(misbehave=misbehave), "utf-8")
    config = {
        "algorithm": "grpo", "backend": "trl", "model_name": str(tiny), "dataset_name": "rows.jsonl",
        "reward_functions": "score.py:score", "output_dir": "run", "batch_size": 4, "gradient_accumulation_steps": 1,
        "num_generations": 2, "max_completion_length": 4, "max_steps": 4, "logging_steps": 1, **settings,
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(config), "utf-8")
    return [sys.executable, "-m", "aligntune", "train", "run.json"]


@pytest.mark.heavy
def test_on_the_command_line_it_is_one_line_and_exit_4_and_the_mended_file_is_resumed(
    tiny, tmp_path, monkeypatch, capsys
):
    command = command_line(tiny, tmp_path, "if trainer_state.global_step == 2: {}['answer']")
    failed = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=tmp_path, env=clean_environment(tmp_path)
    )
    errors = [line for line in failed.stderr.splitlines() if line.startswith("error: ")]
    assert failed.returncode == 4, failed.stderr
    assert len(errors) == 1
    assert re.match(
        r"error: reward = 'score': in a batch of rows [\d, ]+: it raised KeyError: 'answer' \(score", errors[0]
    )
    assert "Traceback" not in failed.stderr
    (tmp_path / "score.py").write_text(REWARD_FILE.format(misbehave="pass"), "utf-8")
    monkeypatch.chdir(tmp_path)
    assert run(["train", "--resume", "run"]) == 0
    assert "going on from run/checkpoint-2" in capsys.readouterr().err
    assert read_run(tmp_path / "run")["status"] == "finished"


@pytest.mark.heavy
def test_a_reward_that_fails_in_one_of_two_processes_ends_both(tiny, tmp_path):
    misbehave = "if os.environ['RANK'] == '1' and trainer_state.global_step == 2: {}['answer']"
    command = command_line(tiny, tmp_path, misbehave, batch_size=2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    together = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [
        subprocess.Popen(
            command, text=True, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            env=clean_environment(tmp_path) | together | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]  # fmt: skip
    told = [process.communicate(timeout=120)[1] for process in ranks]
    assert [process.returncode for process in ranks] == [4, 4], told
    assert "error: reward: failed in another process; see what that one says" in told[0]
    assert re.search(r"error: reward = 'score': in a batch of rows? [\d, ]+: it raised KeyError: 'answer'", told[1])
    run = read_run(tmp_path / "run")
    assert (run["status"], run["steps_done"]) == ("failed", 2)
    assert damage(tmp_path / "run" / "checkpoint-2") is None


# a reward that says nothing


class Counting:
    """Keeps what it was asked to score."""

    def __init__(self) -> None:
        self.scored: list[tuple[int, ...]] = []

    def __call__(self, completions: list[str], completion_ids: list[list[int]]) -> list[float]:
        self.scored += [tuple(ids) for ids in completion_ids]
        return worth(completions)


@pytest.mark.parametrize(
    ("algorithm", "settings", "rollouts"),
    [
        ("grpo", {"num_iterations": 2, "steps_per_generation": 2}, 1),
        ("gspo", {}, 2),
        ("dr_grpo", {}, 4),
        ("dapo", {"dynamic_sampling_attempts": 0}, 4),
        ("ppo", {}, 2),
    ],
)
def test_each_answer_is_scored_exactly_once(start, algorithm, settings, rollouts):
    counting = Counting()
    trainer = start(algorithm, counting, **settings)
    generated: list[tuple[int, ...]] = []
    generate = trainer.native._generate

    def keeping(prompts: list[Any]) -> Any:
        outputs = generate(prompts)
        generated.extend(tuple(ids) for ids in outputs[1])
        return outputs

    trainer.native._generate = keeping
    assert trainer.train().steps == 4
    size = 4 * settings.get("steps_per_generation", PRESETS[algorithm].get("steps_per_generation", 1))
    assert len(counting.scored) == rollouts * size
    assert counting.scored == generated


@pytest.mark.parametrize("algorithm", [name if name in ("grpo", "ppo") else heavy(name) for name in PRESETS])
def test_where_no_reward_applies_nothing_is_learnt(start, tiny, algorithm, caplog):
    settings = {"kl_coef": 0.0} if algorithm == "ppo" else {}
    trainer = start(algorithm, lambda completion: None, max_steps=2, **settings)
    with caplog.at_level("WARNING", "aligntune"):
        trainer.train()
    assert same(final_weights(trainer.run_dir), load_file(tiny / "model.safetensors"))
    assert "nothing is learnt from this rollout" in caplog.text


def test_an_answer_that_no_reward_applies_to_has_no_advantage(start):
    given: list[float | None] = []

    def judge(completions: list[str]) -> list[float | None]:
        given.extend([None, 1.0, 0.0, 2.0])
        return given

    trainer = start("grpo", judge, num_generations=4, max_steps=1)
    trainer.train()
    advantages = list(trainer.native._logs["advantages"])
    assert advantages[0] == 0.0
    assert advantages[2] < advantages[1] < advantages[3]
    assert sum(advantages) == pytest.approx(0.0, abs=1e-5)


def test_ten_rollouts_that_no_reward_applies_to_end_the_run(start):
    trainer = start("grpo", lambda completion: None, max_steps=12)
    problem = "reward_functions: no reward applied to any answer in 10 rollouts; let a reward give a number, not None"
    with pytest.raises(RewardError, match=problem):
        trainer.train()
    assert read_run(trainer.run_dir)["steps_done"] == 9
    assert damage(trainer.run_dir / "checkpoint-9") is None


@pytest.mark.parametrize("algorithm", ["grpo", heavy("gspo"), heavy("dr_grpo"), "dapo"])
def test_a_constant_reward_changes_no_weight_and_says_so(start, tiny, algorithm, caplog):
    """The mean of eight times 0.1, in 32 bits, is not 0.1."""
    trainer = start(algorithm, lambda completion: 0.1, num_generations=8, batch_size=8, max_steps=2)
    with caplog.at_level("WARNING", "aligntune"):
        trainer.train()
    assert same(final_weights(trainer.run_dir), load_file(tiny / "model.safetensors"))
    told = [r.message for r in caplog.records if "nothing is learnt" in r.message]
    assert told[0].startswith("step 1: nothing is learnt from this rollout: no answer earned more than the others")
    row = read(trainer.run_dir / "metrics.jsonl")[0]
    assert row["reward"] == pytest.approx(0.1)
    assert row["frac_reward_zero_std"] == 1.0


# what a reward sees, and what becomes of it


class Seeing:
    """Keeps what it was given."""

    def __init__(self) -> None:
        self.batches: list[dict[str, Any]] = []

    def __call__(self, prompts: list[Any], completions: list[Any], **columns: Any) -> list[float]:
        self.batches.append({"prompts": prompts, "completions": completions, **columns})
        return worth(completions)


def test_a_reward_sees_prompts_answers_and_columns_by_name(start):
    seeing, rows_seen = Seeing(), []

    def one(prompt: str, completion: str, answer: str, absent: str = "unset") -> float:
        rows_seen.append((prompt, completion, answer, absent))
        return 0.0

    start("grpo", seeing, one, max_steps=2).train()
    known = {row["prompt"]: row for row in ROWS}
    for batch in seeing.batches:
        assert all(isinstance(text, str) for text in [*batch["prompts"], *batch["completions"]])
        assert batch["number"] == [known[prompt]["number"] for prompt in batch["prompts"]]
        assert batch["answer"] == [known[prompt]["answer"] for prompt in batch["prompts"]]
        assert {"completion_ids", "trainer_state"} < set(batch)
        assert not {"aligntune_row", "prompt", "environments"} & set(batch)
    batches = ((b["prompts"], b["completions"], b["answer"]) for b in seeing.batches)
    together = [(*row, "unset") for batch in batches for row in zip(*batch, strict=True)]
    assert rows_seen == together


def test_in_rows_of_messages_a_reward_sees_messages(start):
    rows = [
        {
            "messages": [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": "?"}],
            "n": row["number"],
        }
        for row in ROWS
    ]
    seeing = Seeing()
    start("ppo", seeing, max_steps=2, train_dataset=rows, system_prompt="Add.").train()
    (batch,) = seeing.batches
    for prompt, completion, number in zip(batch["prompts"], batch["completions"], batch["n"], strict=True):
        assert prompt == [
            {"role": "system", "content": "Add."},
            {"role": "user", "content": ROWS[number - 1]["prompt"]},
        ]
        assert [sorted(message) for message in completion] == [["content", "role"]]
        assert completion[0]["role"] == "assistant"
        assert isinstance(text_of(completion), str)


def test_each_reward_is_logged_by_name_and_its_weight_counts(start, tmp_path):
    assert write_tiny_model("classification", tmp_path / "judge")

    def letters(completion: str) -> float:
        return float(len(set(completion)))

    def half(completion: str) -> float | None:
        return 0.5 if len(completion) % 2 else None

    model = {"reward_model_name": str(tmp_path / "judge"), "reward_weights": [2.0, 0.25, -3.0]}
    trainer = start("grpo", letters, half, max_steps=2, **model)
    trainer.train()
    for row in read(trainer.run_dir / "metrics.jsonl"):
        assert row["rewards/half/mean"] == 0.5
        assert row["rewards/letters/std"] > 0
        scores = list(zip(*trainer.native._logs["rewards"].values(), strict=True))[-4:]
        assert set(trainer.native._logs["rewards"]) == {"letters", "half", "judge"}
    expected = [2 * a + (0.0 if b is None or b != b else 0.25 * b) - 3 * c for a, b, c in scores]
    assert row["reward"] == pytest.approx(sum(expected) / 4, rel=1e-5)


def test_a_reward_of_weight_zero_teaches_nothing(start):
    def other(completions: list[str]) -> list[float]:
        return [float(place) for place, _ in enumerate(completions)]

    alone = start("grpo", worth, run="alone")
    alone.train()
    weighted = start("grpo", worth, other, run="weighted", reward_weights=[1.0, 0.0])
    weighted.train()
    unweighted = start("grpo", worth, other, run="unweighted")
    unweighted.train()
    assert same(final_weights(weighted.run_dir), final_weights(alone.run_dir))
    assert not same(final_weights(unweighted.run_dir), final_weights(alone.run_dir))
