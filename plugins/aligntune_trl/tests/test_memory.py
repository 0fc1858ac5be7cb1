"""Quantised bases, adapters, gradient checkpointing and packing: less memory, the same training."""

from __future__ import annotations

import json

import pytest
import torch
from aligntune_trl.packing import check_rows_stay_apart
from peft import AutoPeftModelForCausalLM
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from aligntune_core import ConfigError
from aligntune_core.runs.metrics import read

from .marks import heavy
from .results import losses


@pytest.mark.parametrize("bits", [4, 8])
def test_a_quantised_base_trains_an_adapter_by_itself(make, bits):
    trainer = make(**{f"load_in_{bits}bit": True}, num_epochs=3)
    assert trainer.resolved["adapter"]["r"] == 16
    assert {p.dtype for p in trainer.native.model.parameters() if p.requires_grad} == {torch.float32}
    frozen = [p for p in trainer.native.model.parameters() if not p.requires_grad]
    assert any(p.dtype in (torch.uint8, torch.int8) for p in frozen)
    result = trainer.train()
    found = losses(trainer.run_dir)
    assert found[-1] < found[0] - 0.2
    assert (result.model_path / "adapter_config.json").exists()


def test_the_saved_adapter_answers_like_the_trained_model(make):
    trainer = make(use_peft=True, num_epochs=20, learning_rate=1e-2)
    result = trainer.train()
    question = ["What is a token?\n"]
    answers = trainer.predict(question)
    loaded = AutoPeftModelForCausalLM.from_pretrained(result.model_path)
    tokenizer = AutoTokenizer.from_pretrained(result.model_path)
    ids = loaded.generate(**tokenizer(question, return_tensors="pt"), max_new_tokens=64, do_sample=False)
    assert tokenizer.decode(ids[0], skip_special_tokens=True).startswith(question[0] + answers[0][:20])


def test_training_goes_on_from_an_adapter(make, tmp_path):
    first = make(use_peft=True, num_epochs=4)
    first.train()
    after = losses(first.run_dir)[-1]
    second = make(model_name=str(first.run_dir / "model"), max_steps=1, output_dir=str(tmp_path / "two"))
    second.train()
    assert losses(second.run_dir)[0] < after + 0.3


def test_a_quantised_checkpoint_gets_an_adapter_unless_refused(make, tiny, tmp_path):
    folder = tmp_path / "nf4"
    quantised = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    AutoModelForCausalLM.from_pretrained(tiny, quantization_config=quantised).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny).save_pretrained(folder)
    trainer = make(model_name=str(folder), max_steps=1)
    assert trainer.resolved["adapter"] is not None
    assert trainer.resolved["learning_rate"] == 1e-3
    with pytest.raises(ConfigError, match=r"use_peft = False: .*quantised"):
        make(model_name=str(folder), max_steps=1, use_peft=False, output_dir=str(tmp_path / "refused"))


def test_an_evaluation_before_training_changes_nothing_about_quantised_weights(make, tmp_path):
    """bitsandbytes packs them for inference on some CPUs, and then no gradient passes through them."""
    trained = []
    for evaluate in (False, True):
        name = f"evaluated-{evaluate}"
        trainer = make(load_in_4bit=True, max_steps=2, eval_fraction=0.2, output_dir=str(tmp_path / name))
        if evaluate:
            trainer.evaluate()
        trainer.train()
        trained.append(load_file(trainer.run_dir / "model" / "adapter_model.safetensors"))
    assert all(torch.equal(trained[1][name], weight) for name, weight in trained[0].items())


def test_dpo_on_quantised_weights_is_evaluated_and_goes_on(align, tmp_path):
    pairs = [{"prompt": "a b ", "chosen": f"c {letter}", "rejected": f"d {letter}"} for letter in "abcdefgh"]
    trainer = align("dpo", train_dataset=pairs, eval_dataset=pairs[:4], load_in_4bit=True, max_steps=3, eval_steps=1)
    trainer.train()
    assert all(loss > 0 for loss in losses(trainer.run_dir))


@pytest.mark.parametrize("lora", [heavy(False, id="full"), pytest.param(True, id="lora")])
def test_gradient_checkpointing_changes_no_loss(make, tmp_path, lora):
    runs = []
    for name, on in (("off", False), ("on", True)):
        trainer = make(gradient_checkpointing=on, num_epochs=1, use_peft=lora, output_dir=str(tmp_path / name))
        trainer.train()
        runs.append(losses(trainer.run_dir))
    assert runs[0] == pytest.approx(runs[1], rel=1e-6)


def test_packed_rows_give_the_loss_of_the_rows_alone(make, verbatim_rows, tmp_path):
    """All rows in one step, packed and not: the same tokens, so the same mean over tokens."""
    found = []
    for packing, batch in ((False, 20), (True, 20)):
        trainer = make(
            packing=packing, batch_size=batch, gradient_accumulation_steps=1, max_steps=1, warmup_steps=0,
            output_dir=str(tmp_path / f"{packing}"),
        )  # fmt: skip
        trainer.train()
        found.append(losses(trainer.run_dir)[0])
        rows = len(trainer.native.train_dataset)
        assert rows < len(verbatim_rows) if packing else rows == len(verbatim_rows)
    assert found[1] == pytest.approx(found[0], rel=1e-5)


def test_packing_is_refused_where_rows_would_see_each_other(tiny):
    model = AutoModelForCausalLM.from_pretrained(tiny)
    forward = model.forward
    model.forward = lambda position_ids=None, **kwargs: forward(**kwargs)  # a model that knows no row borders
    with pytest.raises(ConfigError, match="packing = True: with sdpa attention packed rows see each other"):
        check_rows_stay_apart(model, [{"input_ids": [5, 6, 7, 8]}, {"input_ids": [9, 10, 11]}])


def test_evaluation_runs_at_its_steps_and_at_each_epoch(make, tmp_path):
    trainer = make(eval_fraction=0.2, num_epochs=2, output_dir=str(tmp_path / "epochs"))
    trainer.train()
    evals = [row["step"] for row in read(trainer.run_dir / "metrics.jsonl") if row["split"] == "eval"]
    assert evals == [2, 4]
    trainer = make(eval_fraction=0.2, max_steps=4, eval_steps=2, save_steps=2, output_dir=str(tmp_path / "steps"))
    trainer.train()
    evals = [row for row in read(trainer.run_dir / "metrics.jsonl") if row["split"] == "eval"]
    assert [row["step"] for row in evals] == [2, 4]
    assert all(row["perplexity"] > 1 for row in evals)
    assert sorted(p.name for p in trainer.run_dir.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]


def test_a_system_prompt_is_seen_in_training_and_in_answers(make, tmp_path):
    path = tmp_path / "chat.jsonl"
    path.write_text(json.dumps({"instruction": "Hi", "output": "Hello"}) + "\n", "utf-8")
    trainer = make(dataset_name=str(path), system_prompt="Be kind.", max_steps=1)
    tokenizer = trainer.native.processing_class
    text = tokenizer.decode(trainer.native.train_dataset[0]["input_ids"])
    assert text == "<|system|>Be kind.<|end|><|user|>Hi<|end|><|assistant|>Hello<|end|>"
    assert len(trainer.predict(["Hi", [{"role": "user", "content": "Hi"}]])) == 2


def test_rows_longer_than_the_models_positions_are_refused(make):
    row = {"prompt": "a", "completion": " b" * 600}
    with pytest.raises(ConfigError, match=r"max_seq_length = 602: a row has 602 tokens.*set max_seq_length: 512"):
        make(train_dataset=[row], max_seq_length=1024)


def test_a_folder_that_is_no_model_is_never_replaced(make, tmp_path):
    trainer = make(max_steps=1)
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter.txt").write_text("years of work")
    with pytest.raises(ConfigError, match=r"path = .*is no folder of a saved model"):
        trainer.save_model(folder)
    assert (folder / "chapter.txt").read_text() == "years of work"
    assert trainer.save_model(tmp_path / "model") == trainer.save_model(tmp_path / "model")


def test_an_open_model_is_trained_as_it_is(make, tiny):
    model = AutoModelForCausalLM.from_pretrained(tiny)
    trainer = make(model=model, max_steps=1)
    assert trainer.native.model is model
