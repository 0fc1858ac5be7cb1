"""A head is for the labels that its config names: kept for these, new for others, saved with what it learnt."""

from __future__ import annotations

import json

import pytest
import torch
from peft.tuners.lora import LoraLayer
from transformers import AutoConfig, AutoModelForSequenceClassification

from aligntune_core import ConfigError, Sampling
from aligntune_core.saved.find import find_saved
from aligntune_core.saved.opening import open_saved

from ..marks import heavy

TEXTS = ["red cat green blue dog cow", "cat", "blue red " * 9]


def weight_in(path):
    return AutoModelForSequenceClassification.from_pretrained(path).classifier.weight


def reopened(trainer):
    return open_saved(find_saved(str(trainer.run_dir))).predict(TEXTS, Sampling())


def test_an_open_model_is_saved_with_the_names_of_the_rows(label, scored):
    model = AutoModelForSequenceClassification.from_pretrained(scored())
    trainer = label(model=model, model_name=str(scored()), eval_dataset=None, max_steps=2)
    path = trainer.train().model_path
    assert AutoConfig.from_pretrained(path).id2label == {0: "animal", 1: "colour"}
    assert reopened(trainer) == trainer.predict(TEXTS)


def test_an_open_model_that_gives_values_is_opened_as_one(label, encoder):
    model = AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=1)
    trainer = label("regression", model=model, model_name=str(encoder), eval_dataset=None, max_steps=2)
    assert AutoConfig.from_pretrained(trainer.train().model_path).problem_type == "regression"
    assert reopened(trainer) == pytest.approx(trainer.predict(TEXTS), rel=1e-5)


def test_an_open_model_for_other_labels_is_refused(label, scored):
    path = scored("neg", "pos")
    model = AutoModelForSequenceClassification.from_pretrained(path)
    with pytest.raises(ConfigError, match="model: its head is for other labels: neg, pos; pass model_name"):
        label(model=model, model_name=str(path), eval_dataset=None, max_steps=1)


def test_as_many_labels_of_other_names_get_a_new_head(label, scored, caplog):
    path = scored("neg", "pos")
    with caplog.at_level("INFO", "aligntune"):
        trainer = label(model_name=str(path), eval_dataset=None, max_steps=1)
    assert "the model's own head is for other labels: neg, pos" in caplog.text
    assert "the model gets a new head: classifier" in caplog.text
    found = trainer.native.model.classifier
    assert not torch.equal(found.weight, weight_in(path))
    assert found.weight.std().item() == pytest.approx(0.02, rel=0.3)  # as BERT draws it
    assert not found.bias.any()


@pytest.mark.parametrize("names", [("animal", "colour"), ("colour", "animal"), ()])
def test_a_head_for_the_same_labels_or_without_names_is_kept(label, scored, caplog, names):
    with caplog.at_level("INFO", "aligntune"):
        trainer = label(model_name=str(scored(*names)), eval_dataset=None, max_steps=1)
    assert torch.equal(trainer.native.model.classifier.weight, weight_in(scored(*names)))
    assert "new head" not in caplog.text
    assert ("does not name its labels, and is kept for animal, colour" in caplog.text) == (not names)


def test_what_says_how_an_adapter_weighs_is_kept_under_a_new_head(make, label, tmp_path):
    learnt = make(use_peft=True, max_steps=1).train().model_path
    file = learnt / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"r": 16, "lora_alpha": 32, "use_rslora": True}))
    trainer = label(
        model_name=str(learnt),
        task_type="text_classification",
        eval_dataset=None,
        max_steps=1,
        output_dir=str(tmp_path / "l"),
    )
    adapted = [m for m in trainer.native.model.modules() if isinstance(m, LoraLayer)]
    assert {layer.scaling["default"] for layer in adapted} == {8.0}
    assert trainer.native.model.active_peft_config.use_rslora


@pytest.mark.parametrize("bits", ["load_in_4bit", heavy("load_in_8bit")])
@pytest.mark.parametrize("kind", ["single", heavy("tokens")])
def test_an_encoder_labels_on_a_quantised_base(label, bits, kind):
    trainer = label(kind, use_peft=True, max_steps=3, eval_dataset=None, **{bits: True})
    before = trainer.native.model.state_dict()
    before = {name: weight.clone() for name, weight in before.items() if "modules_to_save" in name}
    trainer.train()
    after = trainer.native.model.state_dict()
    assert before
    assert all(not torch.equal(weight, after[name]) for name, weight in before.items())
    assert reopened(trainer) == trainer.predict(TEXTS)
