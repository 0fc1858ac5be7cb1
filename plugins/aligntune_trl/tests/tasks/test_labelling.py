"""Texts and words with labels: each kind is learnt, measured, saved, and read again by transformers alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from aligntune_trl.tasks import metrics
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from aligntune_core import ConfigError, Labels
from aligntune_core.runs.metrics import read

from ..marks import heavy
from .conftest import rows_of

MEASURE = {"single": "eval_accuracy", "multi": "eval_f1_micro", "regression": "eval_r2", "tokens": "eval_span_f1"}


@pytest.mark.parametrize("kind", ["single", "multi", "regression", "tokens"])
def test_each_kind_of_labels_is_learnt(label, kind):
    trainer = label(kind)
    trainer.train()
    assert trainer.evaluate()[MEASURE[kind]] > 0.8
    rows = read(trainer.run_dir / "metrics.jsonl")
    assert {"train", "eval"} == {row["split"] for row in rows}
    assert all(row["tokens_per_second"] > 0 for row in rows if row["split"] == "train")


@pytest.mark.parametrize("kind", ["single", heavy("tokens")])
def test_a_causal_model_and_an_adapter_learn_labels_too(label, tiny, kind):
    task = "text_classification" if kind == "single" else None
    given = {"model_name": str(tiny)} if kind == "single" else {}
    trainer = label(kind, use_peft=True, task_type=task, **given)
    trainer.train()
    assert trainer.evaluate()[MEASURE[kind]] > 0.8


def answers_alone(model: Path, texts: list[str]) -> list[str]:
    """What transformers says of texts in a fresh process that does not know AlignTune."""
    code = (
        "import json, sys; from transformers import pipeline\n"
        "found = pipeline('text-classification', sys.argv[1])(json.loads(sys.argv[2]))\n"
        "print(json.dumps([each['label'] for each in found]))"
    )
    command = [sys.executable, "-c", code, str(model), json.dumps(texts)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.heavy
def test_a_saved_classifier_answers_by_name_in_a_fresh_process(label):
    trainer = label()
    model = trainer.train().model_path
    texts = [row["text"] for row in rows_of("single")[160:170]]
    assert answers_alone(model, texts) == trainer.predict(texts)
    config = AutoConfig.from_pretrained(model)
    assert config.id2label == {0: "animal", 1: "colour"}
    assert config.problem_type == "single_label_classification"


def test_a_saved_adapter_has_its_whole_head_and_its_labels(label, encoder):
    trainer = label(use_peft=True, num_epochs=4)
    model = trainer.train().model_path
    whole = {name for name in load_file(model / "adapter_model.safetensors") if "lora_" not in name}
    assert {"pooler", "classifier"} <= {part for name in whole for part in name.split(".")}
    base = AutoModelForSequenceClassification.from_pretrained(encoder, config=AutoConfig.from_pretrained(model))
    loaded = PeftModel.from_pretrained(base, model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    texts = [row["text"] for row in rows_of("single")[160:170]]
    logits = loaded.eval()(**tokenizer(texts, return_tensors="pt", padding=True)).logits
    said = [loaded.config.id2label[int(number)] for number in logits.argmax(-1)]
    assert said == trainer.predict(texts)


def test_words_keep_their_labels_when_they_are_several_tokens(label, encoder):
    words, labels = ["red", "extraordinary", "cat"], [1, 0, 1]
    rows = [{"tokens": words, "labels": ["x" if label else "O" for label in labels]}]
    trainer = label("tokens", train_dataset=rows, eval_dataset=None, max_steps=1)
    shown = trainer.native.train_dataset[0]
    pieces = [len(ids) for ids in AutoTokenizer.from_pretrained(encoder)([f" {word}" for word in words]).input_ids]
    assert pieces[1] > 1
    at = np.cumsum([0, *pieces[:-1]])
    assert [shown["labels"][i] for i in at] == labels
    assert sum(label != -100 for label in shown["labels"]) == 3
    assert len(trainer.predict([words, "red cat"])[0]) == 3


@pytest.mark.parametrize("kind", ["single", heavy("multi"), heavy("regression"), "tokens"])
def test_how_the_batch_is_cut_changes_neither_training_nor_evaluation(label, kind, tmp_path):
    """Rows of different lengths: a mean of means over batches would differ."""
    rows = rows_of(kind)[:40]
    for number, row in enumerate(rows):
        words = row["tokens"] if kind == "tokens" else row["text"].split()
        keep = 1 + number % 6
        if kind == "tokens":
            row.update(tokens=words[:keep], labels=row["labels"][:keep])
        else:
            row["text"] = " ".join(words[:keep])
    found = []
    for batch, accumulation in ((8, 1), (2, 4)):
        trainer = label(
            kind, train_dataset=rows, eval_dataset=rows[:13], batch_size=batch, eval_batch_size=batch, max_steps=3,
            gradient_accumulation_steps=accumulation, output_dir=str(tmp_path / f"{batch}"), optimizer="sgd",
        )  # fmt: skip
        trainer.native.model.eval()  # no dropout, which is drawn by batch
        trainer.native.model.train = lambda mode=True, model=trainer.native.model: model
        trainer.train()
        losses = [row["loss"] for row in read(trainer.run_dir / "metrics.jsonl") if row["split"] == "train"]
        found.append((losses, trainer.evaluate()["eval_loss"]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-5)


def test_a_classifier_goes_on_with_its_labels_and_another_set_gets_a_new_head(label, tmp_path, caplog):
    first = label(max_steps=4)
    model = first.train().model_path
    texts = ["red red cat", "dog cow cow"]
    again = label(model_name=str(model), max_steps=1, output_dir=str(tmp_path / "again"))
    assert again.predict(texts) == first.predict(texts)
    others = [row | {"label": f"{len(row['text']) % 3}"} for row in rows_of("single")[:40]]
    with caplog.at_level("INFO", "aligntune"):
        anew = label(model_name=str(model), train_dataset=others, eval_dataset=None, output_dir=str(tmp_path / "anew"))
    assert "the model gets a new head: classifier" in caplog.text
    assert anew.native.model.config.num_labels == 3


def test_an_adapter_with_a_head_for_other_labels_is_refused(label, tmp_path):
    model = label(use_peft=True, max_steps=1).train().model_path
    others = [row | {"label": f"{len(row['text']) % 3}"} for row in rows_of("single")[:40]]
    with pytest.raises(ConfigError, match=r"model_name = .*head for other labels: animal, colour; give its base"):
        label(model_name=str(model), train_dataset=others, eval_dataset=None, output_dir=str(tmp_path / "other"))


def test_a_run_of_texts_is_a_beginning_for_labels(make, label, tmp_path):
    """A causal adapter is kept under the new head."""
    learnt = make(use_peft=True, max_steps=2).train().model_path
    trainer = label(
        model_name=str(learnt), task_type="text_classification", max_steps=1, output_dir=str(tmp_path / "l")
    )
    before = load_file(learnt / "adapter_model.safetensors")
    after = {name: p for name, p in trainer.native.model.named_parameters() if "lora_B" in name}
    assert after
    for name, weight in after.items():
        stored = before[name.replace(".default", "")]
        assert torch.equal(weight.detach(), stored)


def test_what_texts_with_labels_are_for_is_asked_of_a_causal_model(label, tiny):
    with pytest.raises(ConfigError, match=r"task_type: the rows have text and label.*text_classification or text_gen"):
        label(model_name=str(tiny))
    trainer = label(model_name=str(tiny), task_type="text_generation", max_steps=1)
    assert trainer.native.train_dataset[0]["labels"] != [-100]


def test_a_word_without_a_label_is_neither_learnt_nor_counted_as_lost(label, caplog):
    rows = [{"tokens": ["red", "and", "cow"], "labels": [1, -100, 0]}] * 8
    with caplog.at_level("INFO", "aligntune"):
        trainer = label("tokens", train_dataset=rows, eval_dataset=rows, max_steps=1)
    assert "are not learnt" not in caplog.text
    assert [n for n in trainer.native.train_dataset[0]["labels"] if n != -100] == [1, 0]
    assert trainer.native.model.config.id2label == {0: "0", 1: "1"}
    assert trainer.evaluate()["eval_loss"] > 0


def test_a_row_longer_than_the_model_reads_is_cut_and_told(label, caplog):
    rows = rows_of("single")[:20]
    rows[0]["text"] = "red " * 200
    with caplog.at_level("INFO", "aligntune"):
        label(train_dataset=rows, eval_dataset=None)
    assert "dataset_name: 1 of 20 rows are cut at 64 tokens" in caplog.text
    with pytest.raises(ConfigError, match=r"max_seq_length = 100: the model reads 64 tokens at most"):
        label(train_dataset=rows, eval_dataset=None, max_seq_length=100)


def test_a_run_goes_on_as_if_it_was_never_cut_off(label, tmp_path):
    whole = label("tokens", max_steps=6, save_steps=3, output_dir=str(tmp_path / "whole"))
    expected = load_file(whole.train().model_path / "model.safetensors")
    part = label("tokens", max_steps=6, save_steps=3, output_dir=str(tmp_path / "part"))

    from aligntune_core import Callback

    class Stop(Callback):
        def step(self, step: int) -> None:
            if step == 4:
                raise KeyboardInterrupt

    part.listen(Stop())
    with pytest.raises(KeyboardInterrupt):
        part.train()
    again = label("tokens", max_steps=6, save_steps=3, output_dir=str(tmp_path / "part"), resume=True)
    found = load_file(again.train().model_path / "model.safetensors")
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


def test_the_numbers_are_those_of_plain_arithmetic():
    logits = np.array([[2.0, 0.0, 0.0], [0.0, 1.0, 3.0], [0.0, 0.0, 1.0], [5.0, 0.0, 0.0]])
    found = metrics.of_texts(Labels("single", ("a", "b", "c")), logits, np.array([0, 2, 1, 0]))
    assert found == {"accuracy": 0.75, "f1_macro": pytest.approx((1 + 0 + 2 / 3) / 3)}
    spans = metrics.of_words(Labels("tokens", ("O", "B-x", "I-x")), [[1, 2, 0, 1]], [[1, 2, 0, 0]])
    assert spans["span_precision"] == 0.5
    assert spans["span_recall"] == 1.0
    assert spans["accuracy"] == 0.75


@pytest.mark.parametrize(("option", "value"), [("label_smoothing_factor", 0.1), ("prediction_loss_only", True)])
@pytest.mark.parametrize("kind", ["single", "tokens"])
def test_options_that_our_loss_or_our_numbers_replace_are_refused(label, kind, option, value):
    with pytest.raises(ConfigError, match=rf"backend_options = {value}: '{option}' is decided by the task"):
        label(kind, max_steps=1, backend_options={option: value})
