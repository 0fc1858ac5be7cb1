"""Every algorithm and way of training through the real Unsloth: it learns, and what it leaves loads again."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from aligntune_unsloth.claims import NO_WORDS, WITHOUT_KERNELS

from aligntune import BackendUnavailableError, ConfigError, UnsupportedAlgorithmError, get_trainer
from aligntune_core import Callback
from aligntune_core.saved.find import find_saved
from aligntune_core.saved.opening import open_saved
from aligntune_core.saved_values import Sampling

from .weights import ROWS, train

WAYS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"use_peft": True},
    "qlora": {"load_in_4bit": True},
}
SAME = (
    *("learning_rate", "per_device_train_batch_size", "gradient_accumulation_steps", "max_steps", "seed", "data_seed"),
    *("lr_scheduler_type", "warmup_steps", "weight_decay", "optim", "adam_beta1", "adam_beta2", "max_grad_norm"),
    *(
        "bf16",
        "fp16",
        "loss_type",
        "beta",
        "epsilon",
        "epsilon_high",
        "scale_rewards",
        "num_generations",
        "temperature",
    ),
)


class Stop(Callback):
    """Ctrl-C at the second step."""

    def step(self, step: int) -> None:
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)


def losses(folder: Path) -> list[float]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [row["loss"] for row in rows if row["split"] == "train"]


def resolved(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text("utf-8"))["resolved"]
    return found


@pytest.mark.parametrize("way", WAYS)
def test_sft_learns_and_what_it_saves_answers(tiny: Path, tmp_path: Path, way: str) -> None:
    more = WAYS[way] | {"max_steps": 12, "logging_steps": 1, "learning_rate": 5e-3}
    folder = train("sft", "unsloth", str(tiny), tmp_path / "run", **more)
    found = losses(folder)
    assert found[-1] < found[0] - 0.3
    assert {"unsloth", "trl", "torch"} <= json.loads((folder / "run.json").read_text("utf-8"))["versions"].keys()
    model = open_saved(find_saved(str(folder)))
    assert all(isinstance(text, str) for text in model.predict(["What is 1 + 1? "], Sampling()))
    model.close()


@pytest.mark.parametrize("algorithm", ["dpo", "grpo", "dapo", "dr_grpo", "ppo"])
@pytest.mark.parametrize("way", ["full", "lora"])
def test_preferences_and_rewards_are_trained(tiny: Path, tmp_path: Path, algorithm: str, way: str) -> None:
    folder = train(algorithm, "unsloth", str(tiny), tmp_path / "run", logging_steps=1, **WAYS[way])
    assert len(losses(folder)) == 3
    assert (folder / "model").is_dir()


@pytest.mark.parametrize("way", ["full", "lora"])
@pytest.mark.parametrize("algorithm", ["sft", "dpo"])
def test_in_fp32_its_losses_are_those_of_the_trl_backend(tiny: Path, tmp_path: Path, algorithm: str, way: str) -> None:
    found = {
        backend: losses(
            train(algorithm, backend, str(tiny), tmp_path / backend, logging_steps=1, precision="fp32", **WAYS[way])
        )
        for backend in ("trl", "unsloth")
    }
    assert found["unsloth"] == pytest.approx(found["trl"], rel=1e-5)


@pytest.mark.parametrize("algorithm", ["sft", "dpo", "grpo", "dapo", "dr_grpo", "ppo"])
def test_its_arguments_are_those_of_the_trl_backend(tiny: Path, tmp_path: Path, algorithm: str) -> None:
    ours, theirs = (
        resolved(train(algorithm, backend, str(tiny), tmp_path / backend, use_peft=True, max_steps=1))
        for backend in ("unsloth", "trl")
    )
    differ = {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}
    assert differ <= DIFFERENT


DIFFERENT = {"output_dir", "logging_dir", "run_name", "adapter", "parameters"}
"""Where the two backends' arguments may differ: folders, the adapter's record of its layers, and the count of all
parameters: TRL copies an adapter that comes with a model as its reference, and switches one that it adds itself off."""


def test_a_run_that_is_cut_off_ends_as_if_it_never_was(tiny: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "model_name": str(tiny), "train_dataset": ROWS["sft"], "max_steps": 4, "save_steps": 2, "logging_steps": 1,
        "gradient_accumulation_steps": 1, "learning_rate": 1e-3, "use_peft": True,
    }  # fmt: skip
    whole = train(
        "sft", "unsloth", str(tiny), tmp_path / "whole", save_steps=2, logging_steps=1, max_steps=4, use_peft=True
    )
    with get_trainer("sft", "unsloth", output_dir=str(tmp_path / "cut"), **settings) as trainer:
        trainer.listen(Stop())
        with pytest.raises(KeyboardInterrupt):
            trainer.train()
    with get_trainer("sft", "unsloth", output_dir=str(tmp_path / "cut"), resume=True, **settings) as trainer:
        trainer.train()
    adapters = [folder / "model" / "adapter_model.safetensors" for folder in (whole, tmp_path / "cut")]
    assert adapters[0].read_bytes() == adapters[1].read_bytes()


def test_what_its_cpu_backend_would_leave_out_is_refused(tiny: Path, tmp_path: Path) -> None:
    for setting in ("packing", "load_in_8bit"):
        with pytest.raises(ConfigError, match=f"{setting} = True: Unsloth's CPU backend leaves it out"):
            train("sft", "unsloth", str(tiny), tmp_path / setting, **{setting: True})


def test_gspo_is_refused_with_the_backend_that_trains_it() -> None:
    with pytest.raises(UnsupportedAlgorithmError, match='use backend="trl"'):
        get_trainer("gspo", "unsloth")


def test_without_a_gpu_it_is_an_import_error_with_a_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALIGNTUNE_UNSLOTH_CPU")
    with pytest.raises(BackendUnavailableError, match="no-gpu: Unsloth needs an NVIDIA GPU") as caught:
        get_trainer("sft", "unsloth")
    assert isinstance(caught.value, ImportError)


def test_auto_takes_trl_without_a_gpu(tiny: Path, tmp_path: Path) -> None:
    with get_trainer("sft", model_name=str(tiny), train_dataset=ROWS["sft"], output_dir=str(tmp_path / "run")) as run:
        assert run.selection.backend == "trl"
        assert "cpu-only" in str(run.selection)


def test_a_quantised_checkpoint_gets_an_adapter_by_itself(tiny: Path, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    quantised = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    model = AutoModelForCausalLM.from_pretrained(tiny, quantization_config=quantised, device_map={"": "cpu"})
    model.save_pretrained(tmp_path / "model-bnb-4bit")
    AutoTokenizer.from_pretrained(tiny).save_pretrained(tmp_path / "model-bnb-4bit")
    found = {
        backend: losses(train("sft", backend, str(tmp_path / "model-bnb-4bit"), tmp_path / backend, logging_steps=1))
        for backend in ("trl", "unsloth")
    }
    assert (tmp_path / "unsloth" / "model" / "adapter_model.safetensors").exists()
    assert found["unsloth"] == pytest.approx(found["trl"], rel=1e-3)


def test_in_a_process_in_which_transformers_is_imported_it_is_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailableError, match="was imported in this process before Unsloth"):
        train("sft", "unsloth", str(tiny), tmp_path / "run", isolation="none")


def test_an_open_model_is_refused_here_and_in_a_worker(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"model": object(), "train_dataset": ROWS["sft"], "output_dir": str(tmp_path / "run")}
    for isolation, reason in (("none", "Unsloth loads the model itself"), ("auto", "is open in this process")):
        with pytest.raises(ConfigError, match=reason):
            get_trainer("sft", "unsloth", isolation=isolation, **settings)


# the limited cells


def test_words_are_refused_with_the_note(tiny: Path, tmp_path: Path) -> None:
    rows = [{"tokens": ["a", "b"], "labels": ["X", "Y"]}] * 8
    settings: dict[str, Any] = {"model_name": str(tiny), "train_dataset": rows, "output_dir": str(tmp_path / "run")}
    with pytest.raises(UnsupportedAlgorithmError) as caught:
        get_trainer("sft", "unsloth", **settings)
    assert NO_WORDS in str(caught.value)


def test_texts_are_labelled_as_the_trl_backend_does_it(tiny: Path, tmp_path: Path) -> None:
    rows = [{"text": f"{word} {n}", "label": word} for n in range(8) for word in ("good", "bad")]
    found = {}
    for backend in ("trl", "unsloth"):
        settings: dict[str, Any] = {
            "model_name": str(tiny), "train_dataset": rows, "task_type": "text_classification", "max_steps": 3,
            "logging_steps": 1, "output_dir": str(tmp_path / backend),
        }  # fmt: skip
        with get_trainer("sft", backend, **settings) as run:
            run.listen()
            run.train()
            note = run.selection.note
        found[backend] = losses(tmp_path / backend)
    assert note == WITHOUT_KERNELS
    assert found["unsloth"] == found["trl"]
