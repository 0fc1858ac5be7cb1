"""A setting is honoured, translated or refused; what the library holds afterwards is read back."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
import transformers
import trl
from aligntune_trl import loading
from aligntune_trl.arguments import OWNED, check_read_back, training_arguments, with_options
from aligntune_trl.availability import judge
from aligntune_trl.plugin import provides_algorithms
from aligntune_trl.sft import sft_arguments
from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames

from aligntune import create_sft_trainer
from aligntune_core import (
    Availability,
    BackendUnavailableError,
    ConfigError,
    Device,
    Environment,
    PluginContractError,
)
from aligntune_core.algorithms import ALGORITHMS
from aligntune_core.config import CONFIGS, CORE_SETTINGS, SftConfig
from aligntune_core.config.names import OPTIMIZERS, SCHEDULERS

PACKAGES = dict.fromkeys(("torch", "datasets", "peft", "accelerate"), "9.9") | {
    "transformers": "5.17.0",
    "trl": "1.16.0",
}


@pytest.mark.parametrize("claim", provides_algorithms(), ids=lambda claim: claim.algorithm)
def test_every_setting_of_every_algorithm_is_honoured(claim):
    assert claim.settings | CORE_SETTINGS == set(CONFIGS[claim.algorithm].model_fields)


def test_every_algorithm_that_core_knows_is_trained():
    assert {claim.algorithm for claim in provides_algorithms()} == set(ALGORITHMS)


def test_settings_reach_the_library_under_its_names(make):
    trainer = make(
        seed=7, num_epochs=2, eval_fraction=0.2, eval_batch_size=3, lr_scheduler="linear", warmup_steps=5,
        weight_decay=0.1, optimizer="adamw_torch", max_grad_norm=0.5, gradient_checkpointing=True, save_steps=9,
        eval_steps=4, backend_options={"adam_beta2": 0.95}, precision="fp32", attn_implementation="eager",
    )  # fmt: skip
    expected = {
        "seed": 7, "num_train_epochs": 2.0, "per_device_train_batch_size": 4, "per_device_eval_batch_size": 3,
        "gradient_accumulation_steps": 2, "learning_rate": 1e-3, "lr_scheduler_type": "linear", "warmup_steps": 5.0,
        "weight_decay": 0.1, "optim": "adamw_torch", "max_grad_norm": 0.5, "gradient_checkpointing": True,
        "save_steps": 9, "eval_steps": 4, "eval_strategy": "steps", "adam_beta2": 0.95, "bf16": False, "fp16": False,
        "max_length": 128, "packing": False, "attn_implementation": "eager",
    }  # fmt: skip
    assert {name: trainer.resolved[name] for name in expected} == expected
    json.dumps(dict(trainer.resolved), default=str)


def test_lora_settings_reach_the_adapter(make):
    trainer = make(use_peft=True, lora_r=4, lora_alpha=8, lora_dropout=0.1, lora_target_modules="q_proj,v_proj")
    adapter = trainer.resolved["adapter"]
    assert (adapter["r"], adapter["lora_alpha"], adapter["lora_dropout"]) == (4, 8.0, 0.1)
    assert set(adapter["target_modules"]) == {"q_proj", "v_proj"}
    assert 0 < trainer.resolved["trained_parameters"] < trainer.resolved["parameters"] / 10


def test_a_backend_option_that_does_not_exist_is_refused_with_the_nearest(make):
    with pytest.raises(
        ConfigError, match=r"backend_options = 1: TRL has no field 'adam_beta22'; did you mean 'adam_beta2'"
    ):
        make(backend_options={"adam_beta22": 1})


@pytest.mark.parametrize("name", ["learning_rate", "per_device_train_batch_size", "bf16", "max_length", "seed"])
def test_a_backend_option_that_a_setting_decides_is_refused(name):
    with pytest.raises(ConfigError, match=f"'{name}' is decided by"):
        with_options({}, {name: 1}, trl.SFTConfig)


def test_a_value_that_the_library_changes_is_an_error():
    class Changed:
        learning_rate = 5e-5

    with pytest.raises(PluginContractError, match=r"learning_rate = 0.001: the library changed learning_rate to 5e-05"):
        check_read_back({"learning_rate": 1e-3}, Changed())


def test_every_argument_that_is_passed_exists_in_this_version(tmp_path):
    shared = training_arguments(
        SftConfig(), work_dir=tmp_path, precision="fp32", gradient_checkpointing=False, evaluates=True
    )
    arguments = shared | sft_arguments(SftConfig())
    kept = with_options(arguments, {}, trl.SFTConfig)
    assert set(arguments) - set(kept) <= {"eval_packing"}
    there = {f.name for cls in (trl.SFTConfig, trl.GRPOConfig) for f in dataclasses.fields(cls)}
    assert set(OWNED) <= there


def test_our_choices_are_the_librarys():
    assert set(OPTIMIZERS) <= {o.value for o in OptimizerNames}
    assert set(SCHEDULERS) <= {s.value for s in SchedulerType}


def test_weights_stay_fp32_in_full_fine_tuning_and_a_frozen_base_is_bf16():
    assert loading.weights_dtype(SftConfig(use_peft=False), "bf16") == torch.float32
    assert loading.weights_dtype(SftConfig(use_peft=True), "bf16") == torch.bfloat16


def test_precision_on_cpu_is_fp32_unless_asked():
    assert loading.precision_of(SftConfig()) == "fp32"
    assert loading.precision_of(SftConfig(precision="bf16")) == "bf16"


def test_of_several_gpus_one_is_used_and_said(monkeypatch, caplog):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with caplog.at_level("WARNING", "aligntune"):
        loading.use_one_gpu(Environment(devices=(Device("cuda"), Device("cuda"))))
    assert loading.os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    assert "one of 2 GPUs is used" in caplog.text


def test_under_a_launcher_every_process_keeps_its_gpus(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    loading.use_one_gpu(Environment(devices=(Device("cuda"), Device("cuda")), world_size=2))
    assert "CUDA_VISIBLE_DEVICES" not in loading.os.environ


@pytest.mark.parametrize(
    ("packages", "reason"),
    [
        ({"trl": "1.15.0"}, "trl 1.15.0 cannot train without a GPU"),
        ({"trl": "1.13.0"}, "outside the tested range"),
        ({"trl": "1.17.0"}, "outside the tested range"),
        ({"transformers": "5.2.9"}, "older than 5.3"),
    ],
)
def test_versions_that_do_not_work_are_refused_with_a_remedy(packages, reason):
    verdict = judge(Environment(packages=PACKAGES | packages))
    assert not verdict.ok
    assert reason in verdict.reason
    assert verdict.remedy.startswith("pip install")


def test_versions_that_work_are_available():
    assert judge(Environment(packages=PACKAGES)) == Availability(True)
    with_gpu = Environment(packages=PACKAGES | {"trl": "1.15.0"}, devices=(Device("cuda"),))
    assert judge(with_gpu) == Availability(True)


def patched_init(self, *args, **kwargs): ...


def replaced_class():
    return type("SFTTrainer", (trl.SFTTrainer,), {"__qualname__": "maker.<locals>.SFTTrainer"})


@pytest.mark.parametrize(
    ("owner", "name", "value"),
    [
        (trl, "SFTTrainer", replaced_class()),
        (trl.SFTTrainer, "compute_loss", patched_init),
        (trl.SFTConfig, "__post_init__", patched_init),
        (transformers.Trainer, "create_accelerator_and_postprocess", patched_init),
        (transformers.TrainingArguments, "__post_init__", patched_init),
    ],
)
def test_a_process_in_which_trl_was_patched_is_refused(tiny, tmp_path, monkeypatch, owner, name, value):
    monkeypatch.setattr(owner, name, value)
    rows = [{"prompt": "a", "completion": "b"}] * 4
    with pytest.raises(BackendUnavailableError, match=r"TRL was patched in this process \(.*set isolation: process"):
        create_sft_trainer(model_name=str(tiny), backend="trl", train_dataset=rows, output_dir=str(tmp_path / "run"))
