"""A finished run is a valid model for the next: the policy and the reference both begin where it ended."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
from trl.trainer.utils import use_adapter

from aligntune import create_rl_trainer, create_sft_trainer
from aligntune_core.runs.metrics import read

from .marks import heavy

IDS = torch.tensor([[5, 9, 11, 7, 60, 300]])
PAIRS = [{"prompt": f"q{n} ", "chosen": f"yes {n}", "rejected": f"no {n}"} for n in range(8)]
PROMPTS = [{"prompt": f"q{n} "} for n in range(8)]


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits.detach().clone()


@pytest.fixture(scope="module", params=["lora", "full"])
def sft_run(request, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of SFT on the tiny model that moves its logits far."""
    from aligntune_trl.tiny import write_tiny_model

    folder = tmp_path_factory.mktemp("chain")
    write_tiny_model("causal_lm", folder / "tiny")
    with create_sft_trainer(
        backend="trl", model_name=str(folder / "tiny"), train_dataset=[{"text": "q1 yes 1 q2 yes 2"}] * 8,
        use_peft=request.param == "lora", max_steps=6, learning_rate=1e-2, output_dir=str(folder / "sft"),
    ) as trainer:  # fmt: skip
        trainer.listen()
        trainer.train()
    return folder / "sft"


def sft_logits(run: Path) -> torch.Tensor:
    """What plain transformers and PEFT make of the saved model."""
    model, base = run / "model", run.parent / "tiny"
    if (model / "adapter_config.json").exists():
        return logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), model).eval())
    return logits(AutoModelForCausalLM.from_pretrained(model).eval())


def after(run: Path, algorithm: str, tmp_path: Path, **settings):
    rows = PAIRS if algorithm in ("dpo", "reward") else PROMPTS
    if algorithm not in ("dpo", "reward"):
        settings |= {"reward_functions": [len_of], "num_generations": 2, "max_completion_length": 4}
        settings |= {} if algorithm == "ppo" else {"beta": 0.04}
    trainer = create_rl_trainer(
        algorithm=algorithm, backend="trl", model_name=str(run), train_dataset=rows, batch_size=4,
        gradient_accumulation_steps=1, output_dir=str(tmp_path / algorithm), max_steps=2, **settings,
    )  # fmt: skip
    trainer.listen()
    return trainer


def len_of(completion: str) -> float:
    return float(len(completion))


@pytest.mark.parametrize("algorithm", ["dpo", "grpo", heavy("gspo"), heavy("dapo"), heavy("dr_grpo"), "ppo"])
def test_policy_and_reference_begin_with_the_logits_of_the_sft_model(sft_run, algorithm, tmp_path):
    expected = sft_logits(sft_run)
    base = logits(AutoModelForCausalLM.from_pretrained(sft_run.parent / "tiny").eval())
    assert (expected - base).abs().max() > 0.1
    native = after(sft_run, algorithm, tmp_path).native
    native.model.eval()
    assert torch.allclose(logits(native.model), expected, atol=1e-5)
    if native.ref_model is not None:
        reference = logits(native.ref_model.eval())
    else:
        with use_adapter(native.model, "ref"):
            reference = logits(native.model)
    assert torch.allclose(reference, expected, atol=1e-5)


def test_a_reward_model_begins_with_what_sft_has_learnt(sft_run, tmp_path):
    native = after(sft_run, "reward", tmp_path).native
    reward = native.model.eval()
    model, base = sft_run / "model", sft_run.parent / "tiny"
    if (model / "adapter_config.json").exists():
        sft = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), model).merge_and_unload()
        body = reward.get_base_model().model
    else:
        sft, body = AutoModelForCausalLM.from_pretrained(model), reward.model
    with torch.no_grad():
        found, expected = body(IDS).last_hidden_state, sft.model(IDS).last_hidden_state
    assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("algorithm", ["dpo", "grpo", "ppo"])
def test_what_is_saved_after_a_chain_is_the_trained_policy_alone(sft_run, algorithm, tmp_path):
    trainer = after(sft_run, algorithm, tmp_path, learning_rate=1e-2)
    trainer.train()
    model = trainer.run_dir / "model"
    assert not [p.name for p in model.iterdir() if p.is_dir()]
    trainer.native.model.eval()
    if (model / "adapter_config.json").exists():
        loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(sft_run.parent / "tiny"), model)
    else:
        loaded = AutoModelForCausalLM.from_pretrained(model)
    assert torch.allclose(logits(loaded.eval()), logits(trainer.native.model), atol=1e-5)
    assert not torch.allclose(logits(loaded), sft_logits(sft_run), atol=1e-3)
    assert trainer.save_model(tmp_path / "again") == trainer.save_model(tmp_path / "again")


def test_an_open_model_that_was_changed_is_its_own_reference(tiny, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny)
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(1.5)
    expected = logits(model.eval())
    for algorithm, rows, settings in (
        ("dpo", PAIRS, {}),
        ("grpo", PROMPTS, {"reward_functions": [len_of], "num_generations": 2, "max_completion_length": 4}),
    ):
        trainer = create_rl_trainer(
            algorithm=algorithm, backend="trl", model=model, model_name=str(tiny), train_dataset=rows, batch_size=4,
            gradient_accumulation_steps=1, output_dir=str(tmp_path / algorithm), **settings,
        )  # fmt: skip
        assert torch.allclose(logits(trainer.native.ref_model.eval()), expected, atol=1e-5)
        assert trainer.native.ref_model is not model


@pytest.mark.parametrize("lora", [pytest.param(True, id="lora"), heavy(False, id="full")])
@pytest.mark.parametrize("algorithm", [heavy("grpo"), "ppo"])
def test_a_reward_model_that_was_trained_here_scores_for_ppo_and_grpo(tiny, tmp_path, algorithm, lora):
    with create_rl_trainer(
        algorithm="reward", backend="trl", model_name=str(tiny), train_dataset=PAIRS, batch_size=4, max_steps=4,
        gradient_accumulation_steps=1, learning_rate=1e-2, use_peft=lora, output_dir=str(tmp_path / "judge"),
    ) as trained:  # fmt: skip
        trained.listen()
        trained.train()
        expected = trained.predict(["q1 yes 1", "q2 no 2"])
    settings = {"num_generations": 2} if algorithm == "grpo" else {"critic": "head", "num_generations": 2}
    trainer = create_rl_trainer(
        algorithm=algorithm, backend="trl", model_name=str(tiny), train_dataset=PROMPTS, batch_size=4,
        gradient_accumulation_steps=1, max_completion_length=4, reward_model_name=str(tmp_path / "judge"), max_steps=2,
        logging_steps=1, output_dir=str(tmp_path / algorithm), **settings,
    )  # fmt: skip
    scorer = trainer.native.reward_funcs[0]
    assert scorer(["q1 ", "q2 "], ["yes 1", "no 2"]) == pytest.approx(expected, abs=1e-5)
    trainer.listen()
    trainer.train()
    assert "rewards/judge/mean" in read(trainer.run_dir / "metrics.jsonl")[0]
