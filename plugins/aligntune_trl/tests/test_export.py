"""A merged model computes what the adapter computes, loads without us, and nothing half-done is left."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from aligntune_core.cli.main import run
from aligntune_core.runs.folder import read_run


def fresh_logits(folder, kind="AutoModelForCausalLM"):
    """What plain transformers computes from a folder in a process of its own, in which PEFT cannot be imported."""
    code = (
        "import sys, json, torch; sys.modules['peft'] = sys.modules['aligntune_core'] = None\n"
        f"from transformers import {kind} as Auto, AutoTokenizer\n"
        "tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])\n"
        "batch = {'input_ids': torch.tensor([[2, 3, 4, 5, 6, 7]]), 'attention_mask': torch.ones(1, 6, dtype=int)}\n"
        "print(json.dumps(Auto.from_pretrained(sys.argv[1], dtype=torch.float32)(**batch).logits.tolist()))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return torch.tensor(json.loads(done.stdout))


def trained_logits(trainer):
    with torch.no_grad():
        model = trainer.native.model.eval()
        ids = torch.tensor([[2, 3, 4, 5, 6, 7]])
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.float()


@pytest.fixture
def lora(make):
    trainer = make(use_peft=True, learning_rate=1e-2, max_steps=6)
    trainer.train()
    return trainer


def exported(capsys, *arguments):
    capsys.readouterr()
    code = run(["export", *map(str, arguments)])
    return code, *capsys.readouterr()


def test_a_merged_model_is_the_adapter_in_plain_transformers_in_a_fresh_process(lora, capsys, tmp_path):
    code, out, err = exported(capsys, lora.run_dir, "--merge", "--output", tmp_path / "merged")
    assert (code, err) == (0, "")
    assert out.startswith(f"merged, float32: {tmp_path / 'merged'}\nlargest difference of a logit: ")
    wanted = trained_logits(lora)
    assert torch.allclose(fresh_logits(tmp_path / "merged"), wanted, atol=1e-4)
    with lora.native.model.disable_adapter():
        assert not torch.allclose(trained_logits(lora), wanted, atol=1e-2)


def test_a_merged_model_is_a_model_name_and_answers_alike(lora, make, capsys, tmp_path):
    assert exported(capsys, lora.run_dir, "--merge", "--output", tmp_path / "merged")[0] == 0
    again = make(model_name=str(tmp_path / "merged"), output_dir=str(tmp_path / "again"), max_steps=1)
    assert again.predict(["What is a token?\n"]) == lora.predict(["What is a token?\n"])
    assert again.train().steps == 1


@pytest.mark.heavy
def test_a_merged_reward_model_scores_alike(align, capsys, tmp_path):
    pairs = [{"prompt": "a b", "chosen": f" {w}", "rejected": " j"} for w in "abcdefgh"]
    trainer = align("reward", train_dataset=pairs, max_steps=4, use_peft=True, learning_rate=1e-2)
    trainer.train()
    assert exported(capsys, trainer.run_dir, "--merge", "--output", tmp_path / "merged")[0] == 0
    scores = fresh_logits(tmp_path / "merged", "AutoModelForSequenceClassification")
    assert torch.allclose(scores, trained_logits(trainer), atol=1e-4)


@pytest.mark.heavy
@pytest.mark.parametrize("bits", [4, 8])
def test_a_quantised_base_is_dequantised_and_that_is_said(make, capsys, tmp_path, bits):
    trainer = make(**{f"load_in_{bits}bit": True}, learning_rate=1e-2, max_steps=6)
    trainer.train()
    code, out, err = exported(capsys, trainer.run_dir, "--merge", "--output", tmp_path / "merged")
    assert code == 0, err
    assert "its base was loaded quantised, as in training, and is stored dequantised" in out
    assert "quantization_config" not in json.loads((tmp_path / "merged/config.json").read_text())
    close = 1e-3 if bits == 4 else 5e-2  # with 8 bits the run rounded what goes into a layer too
    assert torch.allclose(fresh_logits(tmp_path / "merged"), trained_logits(trainer), atol=close)


def test_weights_are_stored_in_the_precision_that_was_asked_for(lora, capsys, tmp_path):
    from safetensors import safe_open

    code, out, err = exported(
        capsys, lora.run_dir, "--merge", "--dtype", "bfloat16", "--output", tmp_path / "m", "--json"
    )
    assert code == 0, err
    merged = json.loads(out)["merged"]
    assert 1e-4 < merged["difference"] <= merged["tolerance"] < merged["effect"]
    with safe_open(tmp_path / "m/model.safetensors", framework="pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}  # noqa: SIM118 - no mapping


def test_an_adapter_that_rounding_would_take_away_is_refused_and_nothing_is_left(make, capsys, tmp_path):
    trainer = make(use_peft=True, learning_rate=1e-7, max_steps=3, warmup_steps=0)
    trainer.train()
    code, _, err = exported(capsys, trainer.run_dir, "--merge", "--dtype", "bfloat16", "--output", tmp_path / "m" / "m")
    assert code == 2
    assert "error: dtype = 'bfloat16': rounding changes the logits by " in err
    assert "give --dtype float32, or export the adapter without --merge" in err
    assert not (tmp_path / "m").exists()
    assert exported(capsys, trainer.run_dir, "--merge", "--output", tmp_path / "m")[0] == 0


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings", "ignore:Setting `save_embedding_layers`")
def test_a_model_that_computes_something_else_is_refused_and_nothing_is_left(make, capsys, tmp_path, tiny):
    from safetensors.torch import load_file, save_file

    assert json.loads((tiny / "config.json").read_text())["tie_word_embeddings"] is True
    trainer = make(use_peft=True, lora_target_modules="embed_tokens", learning_rate=1e-2, max_steps=6)
    trainer.train()
    path = trainer.run_dir / "model" / "adapter_model.safetensors"
    save_file(
        {n: t * 20 if "lora_B" in n or "embedding_B" in n else t for n, t in load_file(path).items()},
        path,
        metadata={"format": "pt"},
    )
    # The embedding is the output layer too, so what is merged into the one changes the other.
    code, _, err = exported(capsys, trainer.run_dir, "--merge", "--output", tmp_path / "merged")
    assert code == 2
    assert "error: merge = True: the merged model's logits differ from the adapter's by up to " in err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]


def test_without_merge_the_adapter_is_copied_as_it_is(lora, capsys, tmp_path):
    code, out, _ = exported(capsys, lora.run_dir / "checkpoint-6", "--output", tmp_path / "copy")
    assert code == 0
    assert out.startswith(f"the adapter, copied as it is: {tmp_path / 'copy'}\nit needs its base, ")
    saved = (lora.run_dir / "model/adapter_model.safetensors").read_bytes()
    assert (tmp_path / "copy/adapter_model.safetensors").read_bytes() == saved
    names = {p.name for p in (tmp_path / "copy").iterdir()}
    assert {"README.md", "adapter_config.json", "tokenizer.json"} <= names
    assert not names & {"optimizer.pt", "trainer_state.json", "manifest.json", "training_args.bin"}


def test_the_card_of_a_merged_model_tells_what_was_measured(lora, capsys, tmp_path):
    code, out, _ = exported(capsys, lora.run_dir, "--merge", "--output", tmp_path / "merged", "--json")
    assert code == 0
    card = (tmp_path / "merged/README.md").read_text("utf-8")
    assert f"by at most {json.loads(out)['merged']['difference']:.3g} on rows of fixed tokens" in card
    assert read_run(lora.run_dir)["data"]["sha256"] in card
    assert str(tmp_path) not in card
