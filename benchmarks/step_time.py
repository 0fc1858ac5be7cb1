"""SFT through AlignTune against a plain TRL script with the same explicit arguments, each run in a fresh process.

Prints, for a model whose step takes at least 0.3 s and for a tiny one: the ratio of the median step times, and the
ratio of the times from the start of the script to the end of the first step.
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
from pathlib import Path
from typing import Any

SIZES = {
    "large": {
        "hidden_size": 512,
        "intermediate_size": 1536,
        "num_hidden_layers": 8,
        "batch": 8,
        "words": 120,
        "steps": 8,
    },
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "batch": 2,
        "words": 12,
        "steps": 150,
    },
}


def write_inputs(folder: Path, size: dict[str, int]) -> None:
    """A random model of that size with the demo's tokenizer, and rows of prompt and completion."""
    from aligntune_trl.tiny import write_tiny_model
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    write_tiny_model("causal_lm", folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    shape = {k: v for k, v in size.items() if k not in ("batch", "words", "steps")}
    config = Qwen2Config(vocab_size=len(tokenizer), num_attention_heads=8, num_key_value_heads=8, **shape)
    Qwen2ForCausalLM(config).save_pretrained(folder / "model")
    words = ["the", "model", "reads", "each", "token", "of", "text", "and", "learns", "an", "answer"] * 20
    rows = [
        {"prompt": f"Question {n}: ", "completion": " ".join(words[n % 7 : n % 7 + size["words"]])}
        for n in range(size["batch"] * size["steps"])
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def plain(folder: Path, size: dict[str, int], started: float) -> list[float]:
    """The script that a TRL user writes; the times at which its steps end."""
    import torch
    import trl
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            ends.append(time.perf_counter() - started)

    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    args = trl.SFTConfig(
        output_dir=str(folder / "out"), seed=42, data_seed=42, num_train_epochs=1,
        per_device_train_batch_size=size["batch"],
        gradient_accumulation_steps=1, learning_rate=2e-5, lr_scheduler_type="cosine", warmup_steps=0.03,
        optim="adamw_torch_fused", bf16=False, use_cpu=True, max_length=512, gradient_checkpointing=False,
        logging_steps=10, report_to="none", disable_tqdm=True, save_strategy="no", dataloader_pin_memory=False,
        loss_type="nll",
    )  # fmt: skip
    rows = load_dataset("json", data_files=str(folder / "rows.jsonl"), split="train")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    trl.SFTTrainer(model, args=args, train_dataset=rows, processing_class=tokenizer, callbacks=[Clock()]).train()
    return ends


def through_aligntune(folder: Path, size: dict[str, int], started: float) -> list[float]:
    """The same through AlignTune; the times at which its steps end."""
    from aligntune import create_sft_trainer

    ends: list[float] = []

    class Clock:
        def start(self, first: int, planned: int) -> None: ...
        def row(self, row: object) -> None: ...
        def stop(self) -> None: ...

        def step(self, step: int) -> None:
            ends.append(time.perf_counter() - started)

    trainer = create_sft_trainer(
        backend="trl", model_name=str(folder / "model"), dataset_name=str(folder / "rows.jsonl"), num_epochs=1,
        batch_size=size["batch"], gradient_accumulation_steps=1, max_seq_length=512, save_steps=10**6,
        output_dir=str(folder / f"run-{time.time_ns()}"),
    )  # fmt: skip
    trainer.listen(Clock())
    trainer.train()
    return ends


def child(kind: str, folder: Path, size: dict[str, int]) -> None:
    """One run; prints the time to the first step and the median of the others."""
    started = time.perf_counter()
    ends = (plain if kind == "plain" else through_aligntune)(folder, size, started)
    steps = [b - a for a, b in itertools.pairwise(ends[1:])]
    print("RESULT", json.dumps({"first": ends[0], "step": statistics.median(steps)}))


def measure(kind: str, name: str, folder: Path) -> dict[str, float]:
    """A fresh process's numbers."""
    command = [sys.executable, __file__, "--child", kind, "--size", name, "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    found: dict[str, float] = json.loads(line.removeprefix("RESULT "))
    return found


def compare(name: str, pairs: int) -> None:
    """Alternating pairs of one size, as rows of a table."""
    from pairs import ratio

    with tempfile.TemporaryDirectory() as folder:
        write_inputs(Path(folder), SIZES[name])
        runs: dict[str, list[dict[str, float]]] = {"plain": [], "aligntune": []}
        for pair in range(pairs + 1):
            for kind in ("plain", "aligntune") if pair % 2 else ("aligntune", "plain"):
                found = measure(kind, name, Path(folder))
                if pair:  # the first pair warms the file cache
                    runs[kind].append(found)
    for what in ("step", "first"):
        ours, theirs = ([run[what] for run in runs[kind]] for kind in ("aligntune", "plain"))
        low, middle, high = ratio(ours, theirs)
        title = "a step" if what == "step" else "start to the end of the first step"
        unit = f"{statistics.median(ours):.4f} s | {statistics.median(theirs):.4f} s"
        print(f"| {name}: {title} | {unit} | {low:.3f}, **{middle:.3f}**, {high:.3f} |")
        sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--child", choices=["plain", "aligntune"])
    parser.add_argument("--size", choices=list(SIZES))
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.folder, SIZES[options.size])
        return
    from pairs import machine

    print(machine("aligntune", "trl", "transformers", "torch"))
    print(
        f"| | AlignTune, median | plain TRL, median | ratio: least, median, greatest of {options.pairs} pairs |\n"
        "|---|---|---|---|"
    )
    for name in [options.size] if options.size else SIZES:
        compare(name, options.pairs)


if __name__ == "__main__":
    main()
