"""DPO, GRPO and PPO on a real pretrained model and real rows, with LoRA, on this machine.

    python benchmarks/alignment.py MODEL_FOLDER PREFERENCES.jsonl PROMPTS.jsonl [JOB …]

DPO learns the first 64 pairs; GRPO and PPO take 10 updates with a reward of 1 for an answer of one line. Each job runs
in a process of its own, and is evaluated before and after on rows that it does not train on. Prints Markdown.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pairs import machine

TRAINED, HELD_BACK = 64, 32
FORMAT = {"name": "format", "pattern": r"[^\n]+"}
COMMON: dict[str, Any] = {
    "use_peft": True, "gradient_accumulation_steps": 1, "logging_steps": 1, "lr_scheduler": "constant",
    "warmup_steps": 0,
}  # fmt: skip
ROLLOUT = {
    "max_steps": 10, "batch_size": 16, "num_generations": 8, "max_completion_length": 24, "reward_functions": [FORMAT],
    "learning_rate": 3e-4,
}  # fmt: skip
JOBS: dict[str, dict[str, Any]] = {
    "dpo": {"num_epochs": 2, "batch_size": 4, "max_seq_length": 96, "learning_rate": 1e-4},
    "grpo": ROLLOUT,
    "ppo": {**ROLLOUT, "num_iterations": 1, "critic_learning_rate": 2e-4},
}
MEASURE = {"dpo": "eval_rewards/accuracies", "grpo": "eval_reward", "ppo": "eval_reward"}


def rows_of(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows to train on, and those held back."""
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in itertools.islice(file, TRAINED + HELD_BACK)]
    return rows[:TRAINED], rows[TRAINED:]


def run(job: str, model: Path, rows: Path) -> dict[str, float]:
    """Train one job in this process."""
    from aligntune import get_trainer

    train, held_back = rows_of(rows)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        trainer = get_trainer(
            job, "trl", model_name=str(model), train_dataset=train, eval_dataset=held_back, save_steps=10**6,
            eval_steps=10**6, output_dir=f"{folder}/run", **COMMON, **JOBS[job],
        )  # fmt: skip
        trainer.listen()
        before = trainer.evaluate()[MEASURE[job]]
        result = trainer.train()
        after = trainer.evaluate()[MEASURE[job]]
        wall = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "before": before, "after": after, "steps": result.steps, "seconds": result.seconds, "wall": wall, "peak": peak
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("preferences", type=Path)
    parser.add_argument("prompts", type=Path)
    parser.add_argument("jobs", nargs="*", choices=[[], *JOBS], default=[])
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    jobs = options.jobs or list(JOBS)
    if options.here:
        rows = options.preferences if jobs[0] == "dpo" else options.prompts
        print(json.dumps(run(jobs[0], options.model, rows)))
        return
    print(machine("aligntune", "trl", "transformers", "peft", "torch"))
    print(f"\n{TRAINED} rows, {HELD_BACK} held back; {COMMON}\n")
    print("| job | settings | measure on held-back rows | before | after | steps | loop | all | peak memory |")
    print("|---|---|---|---|---|---|---|---|---|")
    for job in jobs:
        command = [sys.executable, __file__, *map(str, (options.model, options.preferences, options.prompts)), job]
        done = subprocess.run([*command, "--here"], check=True, capture_output=True, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        settings = ", ".join(f"{name} {value}" for name, value in JOBS[job].items())
        numbers = f"{found['before']:.3f} | {found['after']:.3f} | {found['steps']}"
        costs = f"{found['seconds']:.0f} s | {found['wall']:.0f} s | {found['peak']:.1f} GiB"
        print(f"| {job} | {settings} | {MEASURE[job].removeprefix('eval_')} | {numbers} | {costs} |", flush=True)


if __name__ == "__main__":
    main()
