"""SFT, DPO and GRPO through AlignTune against plain TRL scripts with the same explicit arguments.

Each side runs in a process of its own, and the two take turns: a step of one, the same step of the other. So whatever
else the machine does is the same for both, and as both draw the same numbers, so is the work; losses that differ end
the benchmark. Prints, for models whose step takes at least 0.3 s and for SFT of a tiny one, the ratios of a step's
wall-clock time, of its processor time (all threads, those of rewards too), and of the time from the start of the script
to the end of the first step.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GENERATIONS, LONGEST = 8, 32
TOLD = "TOLD"
"""How the lines begin that a run writes for us, among those of the libraries."""


@dataclass(frozen=True)
class Job:
    """An algorithm, a model's shape, and how much it trains.

    Attributes:
        words: of an answer in the rows.
        logging_steps: steps between two rows of metrics.
    """

    algorithm: str
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    batch: int
    steps: int
    words: int = 0
    logging_steps: int = 10


JOBS = {
    "large": Job("sft", 512, 1536, 8, batch=8, steps=8, words=120),
    "tiny": Job("sft", 64, 128, 2, batch=2, steps=150, words=12),
    "dpo": Job("dpo", 256, 768, 4, batch=8, steps=20, words=60, logging_steps=1),
    "grpo": Job("grpo", 256, 768, 4, batch=16, steps=20, logging_steps=1),
}


def letters(completions: list[str], **columns: Any) -> list[float]:
    """A reward that costs nothing: the share of the letter a."""
    return [text.count("a") / (1 + len(text)) for text in completions]


def rows_of(job: Job) -> list[dict[str, str]]:
    """As many rows as the steps take."""
    words = ["the", "model", "reads", "each", "token", "of", "text", "and", "learns", "an", "answer"] * 20
    count = job.steps * job.batch // (GENERATIONS if job.algorithm == "grpo" else 1)
    texts = [" ".join(words[n % 7 : n % 7 + job.words]) for n in range(count + 1)]
    prompts = [{"prompt": f"Question {n}: "} for n in range(count)]
    if job.algorithm == "grpo":
        return prompts
    answers = {"sft": ["completion"], "dpo": ["chosen", "rejected"]}[job.algorithm]
    return [row | {name: texts[n + shift] for shift, name in enumerate(answers)} for n, row in enumerate(prompts)]


def write_inputs(folder: Path, job: Job) -> None:
    """A random model of that size with the demo's tokenizer, and rows."""
    from aligntune_trl.tiny import write_tiny_model
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    write_tiny_model("causal_lm", folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=job.hidden_size, intermediate_size=job.intermediate_size,
        num_hidden_layers=job.num_hidden_layers, num_attention_heads=8, num_key_value_heads=8,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder / "model")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_of(job)), "utf-8")


def plain(folder: Path, job: Job, ended: Callable[[], None]) -> list[float]:
    """The script that a TRL user writes; calls `ended` after each step, and gives the losses."""
    import torch
    import trl
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

    class Clock(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            ended()

    common: dict[str, Any] = {
        "output_dir": str(folder / "out"), "seed": 42, "data_seed": 42, "num_train_epochs": 1,
        "per_device_train_batch_size": job.batch, "gradient_accumulation_steps": 1, "learning_rate": 2e-5,
        "lr_scheduler_type": "cosine", "warmup_steps": 0.03, "optim": "adamw_torch_fused", "bf16": False,
        "use_cpu": True, "gradient_checkpointing": False, "logging_steps": job.logging_steps, "report_to": "none",
        "disable_tqdm": True, "save_strategy": "no", "dataloader_pin_memory": False, "logging_nan_inf_filter": False,
    }  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    rows = load_dataset("json", data_files=str(folder / "rows.jsonl"), split="train")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    given = {"train_dataset": rows, "processing_class": tokenizer, "callbacks": [Clock()]}
    if job.algorithm == "sft":
        trainer = trl.SFTTrainer(model, args=trl.SFTConfig(max_length=512, loss_type="nll", **common), **given)
    elif job.algorithm == "dpo":
        args = trl.DPOConfig(max_length=512, beta=0.1, loss_type=["sigmoid"], **common)
        trainer = trl.DPOTrainer(model, args=args, **given)
    else:
        args = trl.GRPOConfig(
            num_generations=GENERATIONS, max_completion_length=LONGEST, steps_per_generation=1, num_iterations=1,
            temperature=1.0, top_p=1.0, top_k=0, beta=0.04, use_bias_correction_kl=False, epsilon=0.2, loss_type="grpo",
            scale_rewards="group", disable_dropout=True, **common,
        )  # fmt: skip
        trainer = trl.GRPOTrainer(model, reward_funcs=letters, args=args, **given)
    trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def through_aligntune(folder: Path, job: Job, ended: Callable[[], None]) -> list[float]:
    """The same through AlignTune."""
    from aligntune import get_trainer
    from aligntune_core import Callback

    class Clock(Callback):
        def step(self, step: int) -> None:
            ended()

    own: dict[str, Any] = {"max_seq_length": 512}
    if job.algorithm == "grpo":
        own = {"num_generations": GENERATIONS, "max_completion_length": LONGEST, "reward_functions": [letters]}
    trainer = get_trainer(
        job.algorithm, backend="trl", model_name=str(folder / "model"), dataset_name=str(folder / "rows.jsonl"),
        num_epochs=1, batch_size=job.batch, gradient_accumulation_steps=1, learning_rate=2e-5, save_steps=10**6,
        logging_steps=job.logging_steps, output_dir=str(folder / f"run-{time.time_ns()}"), **own,
    )  # fmt: skip
    trainer.listen(Clock())
    trainer.train()
    return [row["loss"] for row in trainer.native.state.log_history if "loss" in row]


def child(kind: str, folder: Path, job: Job) -> None:
    """One run, which tells the seconds of each step, wall-clock and processor's, and then waits for its turn."""
    began = time.perf_counter(), time.process_time()

    def ended() -> None:
        nonlocal began
        print(f"\n{TOLD}", json.dumps([time.perf_counter() - began[0], time.process_time() - began[1]]), flush=True)
        if not sys.stdin.readline():
            sys.exit("the other end is gone")
        began = time.perf_counter(), time.process_time()

    losses = (plain if kind == "plain" else through_aligntune)(folder, job, ended)
    print(f"\n{TOLD}", json.dumps(losses), flush=True)


class Side:
    """A run in a process of its own, step by step."""

    def __init__(self, kind: str, name: str, folder: Path) -> None:
        # Memory that is given back and asked for again in each step costs some processes six per cent, by chance.
        kept = {"MALLOC_TRIM_THRESHOLD_": str(2**32), "MALLOC_MMAP_THRESHOLD_": str(2**30)}
        self._errors = (folder / f"{kind}.log").open("w+", encoding="utf-8")
        command = [sys.executable, __file__, "--child", kind, "--size", name, "--folder", str(folder)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, **kept},
        )
        self.first = self._told()[0]
        self.steps: list[list[float]] = []

    def _told(self) -> list[float]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(TOLD):
                found: list[float] = json.loads(line.removeprefix(TOLD))
                return found
        self._errors.seek(0)
        sys.exit(f"it ended before its time: {self._errors.read()[-2000:]}")

    def _go(self) -> list[float]:
        assert self._process.stdin is not None
        print(file=self._process.stdin, flush=True)
        return self._told()

    def step(self) -> None:
        """Let it do one step."""
        self.steps.append(self._go())

    def losses(self) -> list[float]:
        """Let it end."""
        losses = self._go()
        self._process.communicate()
        self._errors.close()
        return losses


def pair_of(name: str, folder: Path, order: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    """Both sides of a job in turns: what each took, ours first, by what was measured."""
    sides = {kind: Side(kind, name, folder) for kind in order}
    for number in range(1, JOBS[name].steps):
        for kind in order if number % 2 else reversed(order):
            sides[kind].step()
    ours, theirs = sides["aligntune"], sides["plain"]
    if (mine := ours.losses()) != (other := theirs.losses()):
        sys.exit(f"{name}: the two do not train the same: losses {mine} and {other}")
    found = {"first": (ours.first, theirs.first)}
    for what, column in (("step", 0), ("cpu", 1)):
        times = [tuple(step[column] for step in side.steps) for side in (ours, theirs)]
        # The median step of theirs, and as many times it as ours takes in the median: both do the same in each step.
        usual = statistics.median(times[1])
        found[what] = usual * statistics.median(a / b for a, b in zip(*times, strict=True)), usual
    return found


WHAT = {"step": "a step", "cpu": "a step, processor time", "first": "start to the end of the first step"}


def compare(name: str, pairs: int) -> None:
    """Some pairs of one job, as rows of a table."""
    from pairs import ratio

    sides = ("aligntune", "plain")
    with tempfile.TemporaryDirectory() as folder:
        write_inputs(Path(folder), JOBS[name])
        orders = [sides if pair % 2 else sides[::-1] for pair in range(pairs + 1)]
        found = [pair_of(name, Path(folder), order) for order in orders][1:]  # the first warms the file cache
    for what, title in WHAT.items():
        ours, theirs = zip(*(pair[what] for pair in found), strict=True)
        low, middle, high = ratio(ours, theirs)
        unit = f"{statistics.median(ours):.4f} s | {statistics.median(theirs):.4f} s"
        print(f"| {name}: {title} | {unit} | {low:.3f}, **{middle:.3f}**, {high:.3f} |")
        sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--child", choices=["plain", "aligntune"])
    parser.add_argument("--size", choices=list(JOBS), action="append")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.folder, JOBS[options.size[0]])
        return
    from pairs import machine

    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(f"{machine('aligntune', 'trl', 'transformers', 'torch')}; OMP_NUM_THREADS: {threads}")
    print(
        f"| | AlignTune, median | plain TRL, median | ratio: least, median, greatest of {options.pairs} pairs |\n"
        "|---|---|---|---|"
    )
    for name in options.size or JOBS:
        compare(name, options.pairs)


if __name__ == "__main__":
    main()
