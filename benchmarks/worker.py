"""A run in a worker against the same run in the process that asks for it, both started cold.

    python benchmarks/worker.py [--pairs 5]

Prints the seconds of the whole process, from its start to its end, of a run of two steps, in alternating pairs; and
those of a step of a larger model, where the two take turns step by step (see `turns`). The models are random, the rows
are in a file, and the backend is TRL's.
"""

from __future__ import annotations

import argparse
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
from turns import OURS, PLAIN, Contest, Ended, compare, our_clock, tell

ISOLATION = {OURS: "process", PLAIN: "none"}
"""The two sides: in a worker, and here."""
SMALL, LARGE = (64, 2), (384, 6)
"""Hidden units and layers of a model: of the whole run, and of the step."""


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


def train(folder: Path, isolation: str, steps: int, ended: Ended) -> list[float]:
    """One run; its losses."""
    from aligntune import create_sft_trainer
    from aligntune_core.runs.folder import METRICS
    from aligntune_core.runs.metrics import read

    settings: dict[str, Any] = {"model_name": str(folder / "model"), "dataset_name": str(folder / "rows.jsonl")}
    with (
        tempfile.TemporaryDirectory() as place,
        create_sft_trainer(
            backend="trl", isolation=isolation, max_steps=steps, output_dir=f"{place}/run", logging_steps=1,
            gradient_accumulation_steps=1, batch_size=4, **settings,
        ) as trainer,
    ):  # fmt: skip
        trainer.listen(our_clock(ended))
        trainer.train()
        return [row["loss"] for row in read(Path(place, "run", METRICS)) if row["split"] == "train"]


def seconds(folder: Path, kind: str) -> float:
    """A whole process that trains two steps."""
    command = [sys.executable, __file__, "--child", kind, "--folder", str(folder), "--steps", "2", "--alone"]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{kind} failed: {done.stderr[-2000:]}")
    return time.perf_counter() - began


def whole_run(pairs: int) -> None:
    """A row of the table: processes from their start to their end."""
    with tempfile.TemporaryDirectory() as place:
        write_inputs(Path(place), *SMALL)
        worker, here = alternate(partial(seconds, Path(place), OURS), partial(seconds, Path(place), PLAIN), pairs)
    low, middle, high = ratio(worker, here)
    medians = f"{statistics.median(worker):.2f} s | {statistics.median(here):.2f} s"
    print(f"| a whole run of two steps | {medians} | {low:.3f}, **{middle:.3f}**, {high:.3f} |", flush=True)
    more = sorted(a - b for a, b in zip(worker, here, strict=True))
    print(f"\nworker less here: {more[0]:.2f} s, median {statistics.median(more):.2f} s, {more[-1]:.2f} s", flush=True)


def step(pairs: int, steps: int) -> None:
    """A row of the table: the steps of the two, in turns."""
    with tempfile.TemporaryDirectory() as place:
        write_inputs(Path(place), *LARGE)
        command = (sys.executable, __file__, "--folder", place, "--steps", str(steps))
        compare(Contest("a larger model", command, Path(place), steps), pairs, ["step"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40, help="of each side, where a step is measured")
    parser.add_argument("--child", choices=list(ISOLATION), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        run = partial(train, options.folder, ISOLATION[options.child], options.steps)
        run(lambda: None) if options.alone else tell(run)
        return
    print(f"| | in a worker, median | here, median | ratio: least, median, greatest of {options.pairs} pairs |")
    print("|---|---|---|---|", flush=True)
    step(options.pairs, options.steps)
    whole_run(options.pairs)
    print(f"\n{machine('aligntune', 'trl', 'transformers', 'torch')}")


if __name__ == "__main__":
    main()
