"""Text classification through AlignTune against a plain transformers `Trainer` script with the same explicit arguments.

    python benchmarks/classification.py ROWS.jsonl

The rows have `text` and `label`; as many as the steps take are drawn from each label in turn, and every fourth is held
back. The model is a BERT encoder with random weights and the demo's tokenizer, whose step takes at least 0.3 s. Each
side runs in a process of its own, and the two take turns (see `turns`); another accuracy or macro-F1 on the rows held
back, or losses that differ by more than a millionth, end the benchmark: each side adds up the losses of a batch in its
own order. Prints the ratios of a step's wall-clock time, of its processor time, and of the time from the start of the
script to the end of the first step; then what both came to.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from pairs import machine
from turns import OURS, PLAIN, Contest, Ended, compare, our_clock, print_head, tell, their_clock

SHAPE = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 8}
BATCH, LENGTH = 8, 128
HELD_BACK = 4
"""Every so many rows one is held back."""
RATE = 5e-4
ROUNDING = 1e-6
MEASURED = ("eval_accuracy", "eval_f1_macro")


def in_turn(lines: list[str]) -> list[str]:
    """A row of each label, then the next of each, so that guessing the same one always is worth little."""
    found: dict[str, list[str]] = {}
    for line in lines:
        found.setdefault(json.loads(line)["label"], []).append(line)
    return [line for some in itertools.zip_longest(*found.values()) for line in some if line is not None]


def write_inputs(folder: Path, rows: Path, steps: int) -> None:
    """A random encoder with a head for the labels, and the rows: those that the steps take, and those held back."""
    import torch
    from aligntune_trl.tiny import write_tiny_model
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    count = steps * BATCH * HELD_BACK // (HELD_BACK - 1)
    lines = in_turn(rows.read_text("utf-8").splitlines(keepends=True))[: count + 1]
    random.Random(0).shuffle(lines)  # noqa: S311 - no secret
    train = [line for number, line in enumerate(lines) if number % HELD_BACK][: steps * BATCH]
    if len(train) < steps * BATCH:
        sys.exit(f"{rows} has {len(lines)} rows, too few for {steps} steps of {BATCH}")
    (folder / "train.jsonl").write_text("".join(train), "utf-8")
    (folder / "held_back.jsonl").write_text("".join(lines[::HELD_BACK]), "utf-8")
    names = sorted({json.loads(line)["label"] for line in lines})
    write_tiny_model("causal_lm", folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, max_position_embeddings=LENGTH,
        id2label=dict(enumerate(names)), label2id={name: number for number, name in enumerate(names)}, **SHAPE,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder / "model")


def plain(folder: Path, ended: Ended) -> dict[str, Any]:
    """The script that a user of transformers writes; calls `ended` after each step, and gives losses and evaluation."""
    import numpy as np
    import torch
    from datasets import load_dataset
    from sklearn.metrics import accuracy_score, f1_score
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    model = AutoModelForSequenceClassification.from_pretrained(folder / "model", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    files = {"train": str(folder / "train.jsonl"), "test": str(folder / "held_back.jsonl")}
    rows = load_dataset("json", data_files=files)

    def tokenised(batch: dict[str, list[str]]) -> dict[str, Any]:
        found = tokenizer(batch["text"], truncation=True, max_length=LENGTH)
        return {"input_ids": found["input_ids"], "labels": [model.config.label2id[name] for name in batch["label"]]}

    def measured(prediction: Any) -> dict[str, float]:
        guessed, truth = np.argmax(prediction.predictions, axis=-1), prediction.label_ids
        macro = f1_score(truth, guessed, average="macro", zero_division=0)
        return {"accuracy": float(accuracy_score(truth, guessed)), "f1_macro": float(macro)}

    tokens = rows.map(tokenised, batched=True, remove_columns=["text", "label"])
    arguments = TrainingArguments(
        output_dir=str(folder / "out"), seed=42, data_seed=42, num_train_epochs=1, per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=BATCH, gradient_accumulation_steps=1, learning_rate=RATE,
        lr_scheduler_type="cosine", warmup_steps=0.03, optim="adamw_torch_fused", bf16=False, use_cpu=True,
        gradient_checkpointing=False, logging_steps=1, report_to="none", disable_tqdm=True, save_strategy="no",
        eval_strategy="no", dataloader_pin_memory=False, logging_nan_inf_filter=False,
    )  # fmt: skip
    trainer = Trainer(
        model, arguments, train_dataset=tokens["train"], eval_dataset=tokens["test"], processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer), compute_metrics=measured, callbacks=[their_clock(ended)],
    )  # fmt: skip
    trainer.train()
    return outcome(trainer.state.log_history, trainer.evaluate())


def through_aligntune(folder: Path, ended: Ended) -> dict[str, Any]:
    """The same through AlignTune."""
    from aligntune import create_sft_trainer

    trainer = create_sft_trainer(
        backend="trl", model_name=str(folder / "model"), dataset_name=str(folder / "train.jsonl"),
        eval_dataset_name=str(folder / "held_back.jsonl"), num_epochs=1, batch_size=BATCH, eval_steps=10**6,
        gradient_accumulation_steps=1, learning_rate=RATE, max_seq_length=LENGTH, logging_steps=1, save_steps=10**6,
        output_dir=str(folder / f"run-{time.time_ns()}"),
    )  # fmt: skip
    trainer.listen(our_clock(ended))
    trainer.train()
    return outcome(trainer.native.state.log_history, trainer.evaluate())


def outcome(history: list[dict[str, Any]], evaluation: dict[str, float]) -> dict[str, Any]:
    """What has to be the same on both sides."""
    losses = [row["loss"] for row in history if "loss" in row]
    return {"losses": losses} | {name: evaluation[name] for name in MEASURED}


def differences(ours: dict[str, Any], theirs: dict[str, Any]) -> list[float]:
    """How far the losses of the steps are apart, relative to theirs."""
    return [abs(a / b - 1) for a, b in zip(ours["losses"], theirs["losses"], strict=True)]


def same(ours: dict[str, Any], theirs: dict[str, Any]) -> bool:
    """Whether two outcomes are of the same training."""
    return max(differences(ours, theirs)) < ROUNDING and all(ours[name] == theirs[name] for name in MEASURED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--child", choices=[PLAIN, OURS])
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.child:
        tell(partial(plain if options.child == PLAIN else through_aligntune, options.folder))
        return
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(f"{machine('aligntune', 'transformers', 'torch', 'scikit-learn')}; OMP_NUM_THREADS: {threads}")
    print_head("plain transformers", options.pairs)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(folder, options.rows, options.steps)
        command = (sys.executable, __file__, str(options.rows), "--folder", name)
        ours, theirs = compare(Contest("BERT", command, folder, options.steps, same), options.pairs)
    apart, first, last = differences(ours, theirs), ours["losses"][0], ours["losses"][-1]
    print(
        f"\n{len(apart)} losses, {first:.4f} to {last:.4f}, of which {apart.count(0)} are the same in every bit, ",
        end="",
    )
    print(f"others at most {max(apart):.0e} apart; on the rows held back, the same on both sides: ", end="")
    print(", ".join(f"{name.removeprefix('eval_')} {ours[name]:.4f}" for name in MEASURED))


if __name__ == "__main__":
    main()
