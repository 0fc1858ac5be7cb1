"""A run in a worker against the same run in the process that asks for it, both started cold.

    python benchmarks/worker.py [--pairs 5]

Prints the seconds of the whole process, from its start to its end, and those of a step, in alternating pairs: the step
of a run whose step takes about a third of a second, and the whole of one that trains two steps. The models are random,
the rows are in a file, and the backend is TRL's.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from pairs import alternate, machine, ratio
from turns import our_clock

WAYS = ("process", "none")
"""The `isolation` of the two sides."""
SIZES = {"a whole run of two steps": (64, 2, 2), "a step": (512, 8, 12)}
"""What is measured: a model's hidden units, its layers, and the steps."""


def write_inputs(folder: Path, hidden: int, layers: int) -> None:
    """A random model and rows."""
    from aligntune_trl.tiny import write_tiny_model
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    write_tiny_model("causal_lm", folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=hidden, intermediate_size=3 * hidden, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=4, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder / "model")
    rows = [{"prompt": f"Count to {n}: ", "completion": " ".join(map(str, range(n, n + 60)))} for n in range(200)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def child(folder: Path, isolation: str, steps: int) -> None:
    """One run; its last line has the seconds of each step but the first."""
    from aligntune import create_sft_trainer

    ends: list[float] = []
    settings: dict[str, Any] = {"model_name": str(folder / "model"), "dataset_name": str(folder / "rows.jsonl")}
    with (
        tempfile.TemporaryDirectory() as run,
        create_sft_trainer(
            backend="trl", isolation=isolation, max_steps=steps, output_dir=f"{run}/run",
            gradient_accumulation_steps=1, batch_size=4, **settings,
        ) as trainer,
    ):  # fmt: skip
        trainer.listen(our_clock(lambda: ends.append(time.perf_counter())))
        trainer.train()
    print(json.dumps([end - before for before, end in itertools.pairwise(ends)]))


def seconds(folder: Path, isolation: str, steps: int, measure: int) -> float:
    """A fresh process: 0: its seconds; 1: the median of a step's."""
    began = time.perf_counter()
    command = [sys.executable, __file__, "--child", isolation, "--folder", str(folder), "--steps", str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{isolation} failed: {done.stderr[-2000:]}")
    return (time.perf_counter() - began, statistics.median(json.loads(done.stdout.splitlines()[-1])))[measure]


def compare(name: str, pairs: int) -> None:
    """Pairs in alternating order, as a row of the table."""
    hidden, layers, steps = SIZES[name]
    measure = 0 if "whole" in name else 1
    with tempfile.TemporaryDirectory() as place:
        write_inputs(Path(place), hidden, layers)
        worker, here = alternate(*(partial(seconds, Path(place), way, steps, measure) for way in WAYS), pairs)
    low, middle, high = ratio(worker, here)
    more = statistics.median(a - b for a, b in zip(worker, here, strict=True))
    medians = f"{statistics.median(worker):.3f} s | {statistics.median(here):.3f} s"
    print(f"| {name} | {medians} | {more:+.3f} s | {low:.3f}, **{middle:.3f}**, {high:.3f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.folder, options.child, options.steps)
        return
    print(machine("aligntune", "trl", "transformers", "torch"))
    counted = f"ratio: least, median, greatest of {options.pairs} pairs"
    print(f"| | in a worker, median | here, median | difference | {counted} |\n|---|---|---|---|---|", flush=True)
    for name in SIZES:
        compare(name, options.pairs)


if __name__ == "__main__":
    main()
