"""The main job on real input: a real pretrained model learns a real dictionary with LoRA, on this machine.

    python benchmarks/main_job.py MODEL_FOLDER ROWS.jsonl

The first 64 rows are held back. Prints the held-back loss and an answer before and after, wall time and peak memory of
`aligntune train`, as Markdown.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pairs import machine

HELD_BACK, QUESTION_AT = 64, 20
LENGTH = 256
FLAGS = [
    "--use-peft", "--max-steps", "60", "--batch-size", "4", "--gradient-accumulation-steps", "1",
    "--max-seq-length", str(LENGTH), "--backend", "trl",
]  # fmt: skip


def look(model: Path, held_back: Path, folder: Path, *, adapter: bool) -> tuple[float, str, str]:
    """Held-back loss of a model, a held-back question, and the model's answer."""
    from aligntune import create_sft_trainer

    rows = [json.loads(line) for line in held_back.read_text("utf-8").splitlines()]
    settings = {"use_peft": True} if adapter else {}
    with create_sft_trainer(
        backend="trl", model_name=str(model), dataset_name=str(held_back), eval_dataset_name=str(held_back),
        max_seq_length=LENGTH, output_dir=str(folder / f"look-{model.name}"), **settings,
    ) as trainer:  # fmt: skip
        question = rows[QUESTION_AT]["instruction"]
        return trainer.evaluate()["eval_loss"], question, trainer.predict([question])[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("rows", type=Path)
    options = parser.parse_args()
    lines = options.rows.read_text("utf-8").splitlines(keepends=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        held_back, train, run = folder / "held_back.jsonl", folder / "train.jsonl", folder / "run"
        held_back.write_text("".join(lines[:HELD_BACK]), "utf-8")
        train.write_text("".join(lines[HELD_BACK:]), "utf-8")
        before, question, first = look(options.model, held_back, folder, adapter=False)
        files = ["--model-name", str(options.model), "--dataset-name", str(train), "--output-dir", str(run)]
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "aligntune", "train", *files, *FLAGS], check=True)
        wall = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
        loop = json.loads((run / "run.json").read_text("utf-8"))["seconds"]
        after, _, second = look(run / "model", held_back, folder, adapter=True)
    print(machine("aligntune", "trl", "transformers", "peft", "torch"))
    print(f"`aligntune train --model-name … --dataset-name … {' '.join(FLAGS)}`, {len(lines) - HELD_BACK} rows\n")
    print("| | before | after |\n|---|---|---|")
    print(f"| held-back loss, {HELD_BACK} rows | {before:.4f} | {after:.4f} ({after / before - 1:+.1%}) |")
    print(f"| {question} | {' '.join(first.split())[:300]} | {' '.join(second.split())[:300]} |\n")
    print(f"{wall:.0f} s for the whole command, {loop:.0f} s of them the 60 steps; {peak:.1f} GiB peak memory")


if __name__ == "__main__":
    main()
