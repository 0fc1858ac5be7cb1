"""From a call to a ready trainer: what is checked, in which order, and what the backend is given."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import aligntune
from aligntune import BackendType, create_rl_trainer, create_sft_trainer, get_backend_status, get_trainer, list_backends
from aligntune_core import AlgorithmSupport, Availability, Environment, Isolation, Support, TrainRequest, hookimpl
from aligntune_core.checks import checked_config
from aligntune_core.errors import (
    BackendUnavailableError,
    ConfigError,
    DataError,
    NoBackendError,
    PluginLoadError,
    UnknownAlgorithmError,
    UnknownBackendError,
    UnsupportedAlgorithmError,
)
from aligntune_core.plugins import BackendRegistry
from aligntune_core.testing import FakeBackend, fake_entry, make_registry

ILL = Availability(False, "it is ill", "mend it")
SEQ2SEQ = {("instruction_following", "seq2seq"): Support("full")}
Use = Callable[..., BackendRegistry]


@pytest.fixture
def settings(fake_model: Path, chat_file: Path, in_tmp: Path) -> dict[str, Any]:
    """Enough settings for a run."""
    return {"model_name": str(fake_model), "dataset_name": str(chat_file), "output_dir": "run"}


# the order of checks: each call is wrong in all that follows, too


@pytest.mark.parametrize(
    ("algorithm", "backend", "error"),
    [
        ("nonsense", "nonsense", UnknownAlgorithmError),
        ("dpo", "nonsense", UnknownBackendError),
        ("dpo", "ill", UnsupportedAlgorithmError),
        ("sft", "ill", BackendUnavailableError),
        ("sft", "unsloth", BackendUnavailableError),
        ("sft", "broken", PluginLoadError),
        ("sft", "fake", ConfigError),
    ],
)
def test_checks_come_in_the_order_of_the_contract(
    monkeypatch: pytest.MonkeyPatch, algorithm: str, backend: str, error: type[Exception]
) -> None:
    entries = [("fake", FakeBackend()), ("ill", FakeBackend(verdict=ILL)), ("broken", ImportError("no torch"))]
    registry = make_registry(*(fake_entry(name, plugin) for name, plugin in entries))
    with pytest.raises(error) as caught:
        checked_config(algorithm, backend, [_layer(lora_r=0)], registry=registry, environment=Environment())
    assert type(caught.value) is error


def _layer(**settings: Any) -> Any:
    from aligntune_core.config import Layer

    return Layer(settings)


def test_an_unsupported_pair_is_told_although_no_model_is_named(use_registry: Use) -> None:
    use_registry(unsloth=FakeBackend(), trl=FakeBackend(("sft", "gspo")))
    with pytest.raises(UnsupportedAlgorithmError, match='use backend="trl"'):
        create_rl_trainer(algorithm="gspo", backend="unsloth")


def test_what_is_missing_is_told_together(use_registry: Use) -> None:
    use_registry(fake=FakeBackend())
    with pytest.raises(ConfigError) as caught:
        create_sft_trainer()
    assert [p.field for p in caught.value.problems] == ["model_name", "dataset_name"]


# the backend


def test_one_of_ours_that_is_absent_is_an_import_error(use_registry: Use) -> None:
    use_registry(fake=FakeBackend())
    with pytest.raises(ImportError, match="aligntune\\[unsloth\\]"):
        create_sft_trainer(backend=BackendType.UNSLOTH, model_name="m", dataset_name="d.jsonl")


@pytest.mark.parametrize("backend", ["trl", "TRL", BackendType.TRL, "auto", BackendType.AUTO])
def test_strings_in_any_case_and_the_enum_mean_the_same(
    use_registry: Use, settings: dict[str, Any], backend: object
) -> None:
    use_registry(trl=FakeBackend())
    with get_trainer("SFT", backend, **settings) as trainer:
        assert trainer.selection.backend == "trl"


def test_auto_falls_back_and_says_why(
    use_registry: Use, settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    use_registry(trl=FakeBackend(preference=10), unsloth=FakeBackend(preference=50, verdict=ILL))
    with caplog.at_level(logging.INFO, "aligntune"), get_trainer("sft", **settings) as trainer:
        assert trainer.selection.backend == "trl"
    lines = [r.getMessage() for r in caplog.records if "chosen by auto" in r.getMessage()]
    assert lines == ["sft: backend trl (chosen by auto); unsloth not taken: it is ill; mend it"]


class Particular(FakeBackend):
    """Fit for this machine, but not for what is asked of it."""

    @hookimpl
    def is_available(self, environment: Environment, request: TrainRequest | None) -> Availability:
        return Availability(True) if request is None else ILL


def test_auto_passes_over_a_backend_that_cannot_train_this_very_run(
    use_registry: Use, settings: dict[str, Any]
) -> None:
    use_registry(trl=FakeBackend(preference=10), unsloth=Particular(preference=50))
    with get_trainer("sft", **settings) as trainer:
        assert trainer.selection.backend == "trl"
    with pytest.raises(BackendUnavailableError, match="it is ill"):
        get_trainer("sft", "unsloth", **settings)


class Elsewhere(FakeBackend):
    """Trains in a worker."""

    @hookimpl
    def isolation(self, folder: Path) -> Isolation:
        return Isolation(own_process=True)


def test_auto_passes_over_a_worker_where_the_run_cannot_go_there(
    use_registry: Use, settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    use_registry(trl=FakeBackend(preference=10), unsloth=Elsewhere(preference=50))
    del settings["model_name"]
    with caplog.at_level(logging.INFO, "aligntune"), get_trainer("sft", model=object(), **settings) as trainer:
        assert trainer.selection.backend == "trl"
    assert "unsloth not taken: model is open in this process, and training is in another" in caplog.text
    with pytest.raises(ConfigError, match="is open in this process"):
        get_trainer("sft", "unsloth", model=object(), **settings)
    with pytest.raises(ConfigError, match="is open in this process"):
        get_trainer("sft", model=object(), isolation="process", **settings)


def test_auto_looks_at_the_checkpoint_and_the_rows(use_registry: Use, settings: dict[str, Any]) -> None:
    use_registry(unsloth=FakeBackend(preference=50, cells=SEQ2SEQ), trl=FakeBackend(preference=10))
    with get_trainer("sft", **settings) as trainer:
        assert trainer.selection.backend == "trl"


def test_an_explicit_backend_stays_and_its_refusal_names_another(use_registry: Use, settings: dict[str, Any]) -> None:
    use_registry(unsloth=FakeBackend(preference=50, cells=SEQ2SEQ), trl=FakeBackend(preference=10))
    with pytest.raises(UnsupportedAlgorithmError, match='use backend="trl"') as caught:
        get_trainer("sft", "unsloth", **settings)
    assert caught.value.field == "model_type"


def test_the_task_that_is_asked_for_chooses_the_backend(use_registry: Use, settings: dict[str, Any]) -> None:
    tokens = {("token_classification", "causal_lm"): Support("full")}
    use_registry(a=FakeBackend(preference=9), b=FakeBackend(cells=tokens))
    rows = [{"tokens": ["a", "b"], "labels": ["X", "O"]}]
    del settings["dataset_name"]
    with get_trainer("sft", task_type="Token Classification", train_dataset=rows, **settings) as trainer:
        assert trainer.selection.backend == "b"


def test_no_backend_is_told_with_the_command(use_registry: Use) -> None:
    use_registry()
    with pytest.raises(NoBackendError, match="pip install 'aligntune\\[trl\\]'"):
        create_sft_trainer(model_name="m", dataset_name="d.jsonl")


def test_the_note_of_a_limited_backend_is_a_warning(
    use_registry: Use, settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    use_registry(fake=FakeBackend(cells={("instruction_following", "causal_lm"): Support("limited", "it is slow")}))
    with get_trainer("sft", "fake", **settings):
        assert [r.levelname for r in caplog.records if "it is slow" in r.getMessage()] == ["WARNING"]


def test_status_has_the_keys_of_the_contract_and_lists_ours_when_absent(use_registry: Use) -> None:
    use_registry(mine=FakeBackend(verdict=ILL), bad=ImportError("x"))
    status = get_backend_status()
    assert list(status) == ["bad", "mine", "trl", "unsloth"]
    assert all(set(s) == {"available", "reason", "remedy", "version", "distribution"} for s in status.values())
    assert status["mine"] | {} == {
        "available": False,
        "reason": "it is ill",
        "remedy": "mend it",
        "version": "1.0",
        "distribution": "aligntune-mine",
    }
    assert status["trl"]["remedy"] == "pip install 'aligntune[trl]'"
    assert "ImportError: x" in status["bad"]["reason"]
    assert list_backends() == ["mine"]


# the settings


def test_a_setting_that_the_backend_does_not_honour_is_refused(use_registry: Use, settings: dict[str, Any]) -> None:
    use_registry(fake=Modest())
    with pytest.raises(ConfigError, match="packing = True: the chosen backend has no such setting"):
        get_trainer("sft", packing=True, **settings)


class Modest(FakeBackend):
    """It honours only what a run cannot do without."""

    @hookimpl
    def provides_algorithms(self) -> list[AlgorithmSupport]:
        known = frozenset({"model_name", "dataset_name", "output_dir"})
        cells = {("instruction_following", "causal_lm"): Support("full")}
        return [AlgorithmSupport(algorithm="sft", cells=cells, settings=known)]


def test_a_keyword_wins_over_the_config_file(use_registry: Use, settings: dict[str, Any], in_tmp: Path) -> None:
    fake = FakeBackend()
    use_registry(fake=fake)
    (in_tmp / "c.yaml").write_text(json.dumps({"seed": 1, "batch_size": 8, "backend": "fake"}), "utf-8")
    with get_trainer("sft", config="c.yaml", seed=2, **settings) as trainer:
        config = fake.requests[0].config
        assert (config.seed, config.batch_size, trainer.selection.asked) == (2, 8, "fake")


def test_the_backend_is_given_canonical_names_and_settled_settings(use_registry: Use, settings: dict[str, Any]) -> None:
    fake = FakeBackend()
    use_registry(fake=fake)
    with get_trainer("Sft", use_peft=True, **settings):
        request = fake.requests[0]
    assert (request.algorithm, request.task, request.model_type) == ("sft", "instruction_following", "causal_lm")
    assert (request.config.learning_rate, request.row_format) == (2e-4, "prompt_completion")
    assert request.work_dir.parent == Path("run").absolute()


def test_fp16_without_a_gpu_is_refused(
    use_registry: Use, settings: dict[str, Any], environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_registry(fake=FakeBackend())
    monkeypatch.setattr("aligntune_core.factory.detect", lambda: environment)
    with pytest.raises(ConfigError, match="needs a GPU"):
        get_trainer("sft", precision="fp16", **settings)


def test_a_launcher_of_several_processes_needs_an_output_dir(
    use_registry: Use, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    use_registry(fake=FakeBackend())
    monkeypatch.setenv("WORLD_SIZE", "2")
    del settings["output_dir"]
    with pytest.raises(ConfigError, match="output_dir"):
        get_trainer("sft", **settings)


@pytest.mark.parametrize("name", ["sft", "SFT", " Sft"])
def test_supervised_fine_tuning_is_not_reinforcement_learning(use_registry: Use, name: str) -> None:
    use_registry(fake=FakeBackend())
    with pytest.raises(ConfigError, match="use create_sft_trainer"):
        create_rl_trainer(algorithm=name)


# what is in memory


def test_rows_in_memory_are_trained(use_registry: Use, settings: dict[str, Any]) -> None:
    fake = FakeBackend()
    use_registry(fake=fake)
    del settings["dataset_name"]
    rows = [{"instruction": "Say hi", "output": "hi"}] * 3
    with get_trainer("sft", train_dataset=rows, eval_dataset=rows[:1], **settings):
        assert (len(fake.requests[0].train_rows), len(fake.requests[0].eval_rows)) == (3, 1)


ROWS = [{"prompt": "a", "completion": "b"}] * 4


@pytest.mark.parametrize("rows", [[], [1, 2], "text", {"a": [1]}])
def test_anything_else_in_memory_is_refused(use_registry: Use, settings: dict[str, Any], rows: object) -> None:
    use_registry(fake=FakeBackend())
    del settings["dataset_name"]
    with pytest.raises(DataError):
        get_trainer("sft", train_dataset=rows, **settings)


@pytest.mark.parametrize(
    ("objects", "given", "field"),
    [
        ({"train_dataset": ROWS}, {"split": "train[:1]"}, "split"),
        ({"train_dataset": ROWS}, {"dataset_name": "rows.jsonl"}, "dataset_name"),
        ({"train_dataset": ROWS, "eval_dataset": ROWS}, {"eval_fraction": 0.5}, "eval_fraction"),
        ({"train_dataset": ROWS, "model": object()}, {"load_in_4bit": True}, "load_in_4bit"),
        ({"train_dataset": ROWS, "model": object()}, {"attn_implementation": "eager"}, "attn_implementation"),
    ],
)
def test_a_setting_that_an_open_object_decides_is_refused(
    use_registry: Use, settings: dict[str, Any], objects: dict[str, Any], given: dict[str, Any], field: str
) -> None:
    use_registry(fake=FakeBackend())
    del settings["dataset_name"]
    with pytest.raises(ConfigError, match="has no effect beside") as caught:
        get_trainer("sft", **objects, **settings, **given)
    assert caught.value.field == field


@pytest.mark.parametrize("where", ["keyword", "file"])
def test_the_sft_door_refuses_another_algorithm(use_registry: Use, settings: dict[str, Any], where: str) -> None:
    use_registry(fake=FakeBackend())
    given = {"algorithm": "dpo"} if where == "keyword" else {"config": {"algorithm": "dpo"}}
    with pytest.raises(ConfigError, match=r"algorithm = 'dpo': is not supervised fine-tuning"):
        create_sft_trainer(**settings, **given)


def test_an_open_model_reaches_the_backend_as_it_is(use_registry: Use, settings: dict[str, Any]) -> None:
    fake, model = FakeBackend(), object()
    use_registry(fake=fake)
    del settings["model_name"]
    with get_trainer("sft", model=model, **settings):
        assert fake.requests[0].model is model


def test_a_quantised_open_model_gets_an_adapter(use_registry: Use, settings: dict[str, Any]) -> None:
    class Quantised:
        is_loaded_in_4bit = True

    fake = FakeBackend()
    use_registry(fake=fake)
    with get_trainer("sft", model=Quantised(), **settings):
        assert fake.requests[0].config.use_peft is True


def test_the_matrix_is_what_the_installed_backends_say(use_registry: Use) -> None:
    use_registry(fake=FakeBackend(verdict=ILL))
    cells = aligntune.support_matrix().cells
    assert {(c["backend"], c["algorithm"], c["available"], c["reason"]) for c in cells} == {
        ("fake", "sft", False, "it is ill")
    }


def test_nothing_is_left_behind_by_a_trainer_that_never_trains(
    use_registry: Use, settings: dict[str, Any], in_tmp: Path
) -> None:
    use_registry(fake=FakeBackend())
    with get_trainer("sft", **settings):
        pass
    assert list(in_tmp.iterdir()) == []


def test_a_backend_that_trains_no_adapter_is_given_no_checkpoint_that_needs_one(
    use_registry: Use, settings: dict[str, Any], tmp_path: Path
) -> None:
    adapter = tmp_path / "adapter"
    shutil.copytree(settings["model_name"], adapter)
    config = {"base_model_name_or_path": settings["model_name"]}
    (adapter / "adapter_config.json").write_text(json.dumps(config), "utf-8")
    use_registry(modest=Modest())
    with pytest.raises(ConfigError, match="the backend 'modest' trains all weights; give a full model"):
        get_trainer("sft", **{**settings, "model_name": str(adapter)})
