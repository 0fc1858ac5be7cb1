"""Settings: which value wins, what is refused and how it is told, and where each default comes from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligntune_core.config import CONFIGS, Layer, SftConfig, TrainingConfig, build_config, check_effects, file_layer
from aligntune_core.config.aliases import ALIASES, BY_ALIAS
from aligntune_core.config.describe import describe
from aligntune_core.errors import ConfigError

NAMES = {name for cls in CONFIGS.values() for name in cls.model_fields}


def build(settings: Mapping[str, Any] | None = None, **keywords: Any) -> TrainingConfig:
    """A config from a file's settings and keywords."""
    return build_config(SftConfig, [Layer(dict(settings or {}), "run.yaml"), Layer(keywords)])


def refusal(settings: Mapping[str, Any] | None = None, **keywords: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        build(settings, **keywords)
    return caught.value


def read(folder: Path, text: str, name: str = "run.yaml") -> dict[str, Any]:
    (folder / name).write_text(text, "utf-8")
    return file_layer(folder / name).settings


def misread(folder: Path, text: str, name: str = "run.yaml") -> str:
    with pytest.raises(ConfigError) as caught:
        read(folder, text, name)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


# which value wins


def test_a_keyword_wins_over_the_file_and_the_file_over_the_default() -> None:
    config = build({"batch_size": 3, "seed": 3}, batch_size=2)
    assert (config.batch_size, config.seed, config.lora_r) == (2, 3, 16)


def test_a_keyword_wins_over_the_files_alias() -> None:
    assert (
        build({"lr": 1e-3}, learning_rate=1e-5).learning_rate == build({"learning_rate": 1e-3}, lr=1e-5).learning_rate
    )


def test_a_keyword_of_none_means_not_set() -> None:
    config = build(seed=None)
    assert config.seed == 42
    assert config.given == {}


@pytest.mark.parametrize("alias", BY_ALIAS)
def test_an_alias_means_its_setting(alias: str) -> None:
    name = BY_ALIAS[alias]
    cls = next(cls for cls in CONFIGS.values() if name in cls.model_fields)
    value = {"column_mapping": {"prompt": "q"}, "report_to": "none"}.get(name, _sample(cls, name))
    assert list(build_config(cls, [Layer({alias: value})]).given) == [name]


def _sample(cls: type[TrainingConfig], name: str) -> Any:
    """A value that the setting takes."""
    default = cls.model_fields[name].get_default()
    words = {
        "eval_fraction": 0.5,
        "learning_rate": 1e-3,
        "critic_learning_rate": 1e-3,
        "resume": "auto",
        "max_steps": 3,
        "use_peft": True,
    }
    return default if default is not None else words.get(name, 3 if name.endswith(("size", "steps")) else "text")


def test_aliases_are_unique_and_no_names_of_ours() -> None:
    listed = [alias for aliases in ALIASES.values() for alias in aliases]
    assert len(listed) == len(set(listed))
    assert not set(listed) & NAMES
    assert set(ALIASES) <= NAMES


def test_two_names_of_one_setting_must_agree() -> None:
    assert build({"lr": 1e-4, "learning_rate": 1e-4}).learning_rate == 1e-4
    assert refusal({"lr": 1e-4, "learning_rate": 1e-3}).field == "learning_rate"


# what text may say


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("learning_rate", "1e-4", 1e-4),
        ("lora_r", "8", 8),
        ("packing", "true", True),
        ("packing", "no", False),
        ("max_steps", "-1", None),
        ("precision", "BF16", "bf16"),
        ("lora_target_modules", "q_proj, v_proj", ("q_proj", "v_proj")),
        ("column_mapping", "prompt=question,completion=a", {"prompt": "question", "completion": "a"}),
        ("backend_options", "{neftune: 5, deep: {a: [1]}}", {"neftune": 5, "deep": {"a": [1]}}),
        ("report_to", "none", ()),
        ("resume", "true", True),
        ("resume", "false", None),
        ("resume", "runs/1", "runs/1"),
    ],
)
def test_a_flag_can_say_every_kind_of_value(name: str, text: str, value: object) -> None:
    assert getattr(build({name: text}), name) == value


# what is refused


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", "fast"),
        ("learning_rate", float("nan")),
        ("learning_rate", "inf"),
        ("learning_rate", 0),
        ("learning_rate", 1.5),
        ("batch_size", 0),
        ("batch_size", 1.5),
        ("batch_size", True),
        ("lora_r", [10**5000]),
        ("lora_dropout", 1),
        ("eval_fraction", 1),
        ("seed", -1),
        ("max_steps", 0),
        ("precision", "fp64"),
        ("precision", "{precision}"),
        ("packing", "perhaps"),
        ("model_name", ""),
        ("model_name", 7),
        ("output_dir", "a\0b"),
        ("column_mapping", "prompt"),
        ("column_mapping", {"prompt": 3}),
        ("backend_options", "text"),
        ("backend_options", [1]),
        ("lr_scheduler", "cosin"),
        ("report_to", "{x}"),
        ("resume", 3.5),
        ("lora_target_modules", 3),
    ],
)
def test_a_bad_value_is_told_in_one_line_with_a_remedy(name: str, value: object) -> None:
    error = refusal({name: value})
    assert len(str(error).splitlines()) == 1
    assert error.field == name
    assert error.problem.endswith("(run.yaml)")
    assert error.remedy
    assert len(str(error)) < 500


def test_all_bad_fields_are_told_at_once() -> None:
    error = refusal({"lora_r": 0, "sed": 1}, batch_size="x", nonsense=1)
    assert {p.field for p in error.problems} == {"lora_r", "sed", "batch_size", "nonsense"}


@pytest.mark.parametrize(
    ("name", "guess"), [("learning_rat", "learning_rate"), ("LoraR", "lora_r"), ("num_epoch", "num_epochs")]
)
def test_an_unknown_name_gets_a_suggestion(name: str, guess: str) -> None:
    assert refusal({name: 1}).remedy == f"did you mean '{guess}'?"


@given(
    st.text(min_size=1, max_size=40).filter(
        lambda n: n not in NAMES and n not in BY_ALIAS and n not in ("algorithm", "backend")
    )
)
def test_no_unknown_name_is_ever_accepted(name: str) -> None:
    assert "no setting has this name" in refusal({name: 1}).problem


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"load_in_4bit": True, "load_in_8bit": True}, "load_in_8bit"),
        ({"use_peft": False, "load_in_4bit": True}, "use_peft"),
        ({"max_steps": 5, "num_epochs": 1}, "num_epochs"),
        ({"eval_dataset_name": "a.csv", "eval_fraction": 0.1}, "eval_fraction"),
        ({"resume": True, "overwrite": True}, "overwrite"),
    ],
)
def test_settings_at_odds_are_refused(settings: dict[str, Any], field: str) -> None:
    assert refusal(settings).field == field


@pytest.mark.parametrize(("settings", "field"), [({"lora_r": 8}, "lora_r"), ({"eval_steps": 5}, "eval_steps")])
def test_a_setting_without_effect_is_refused(settings: dict[str, Any], field: str) -> None:
    config = build(settings).settled(quantised=False)
    with pytest.raises(ConfigError) as caught:
        check_effects(config, has_eval=False)
    assert caught.value.field == field
    check_effects(build(settings, use_peft=True).settled(quantised=False), has_eval=True)


def test_what_the_backend_does_not_honour_is_refused() -> None:
    with pytest.raises(ConfigError, match="packing = True: the chosen backend has no such setting"):
        build_config(SftConfig, [Layer({"packing": True})], honoured=frozenset({"seed"}))


# what is kept

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=5,
)
WORD = st.text(st.characters(min_codepoint=33, max_codepoint=0x2FF), min_size=1, max_size=8)
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "model_name": WORD,
        "system_prompt": WORD,
        "split": WORD,
        "learning_rate": st.floats(1e-9, 1.0),
        "warmup_steps": st.floats(0, 1e6),
        "batch_size": st.integers(1, 2**31 - 1),
        "seed": st.integers(0, 2**32 - 1),
        "packing": st.booleans(),
        "use_peft": st.none() | st.booleans(),
        "precision": st.sampled_from(["auto", "bf16", "fp16", "fp32"]),
        "resume": st.sampled_from([None, True, "auto", "runs/7"]),
        "max_steps": st.sampled_from([None, -1, 7]),
        "lora_target_modules": st.just("all-linear") | st.lists(WORD.filter(lambda w: "," not in w), max_size=3),
        "column_mapping": st.dictionaries(WORD, WORD, max_size=3),
        "backend_options": st.dictionaries(WORD, JSON, max_size=3),
    },
)


@given(SETTINGS)
def test_what_is_dumped_is_read_back_the_same(settings: dict[str, Any]) -> None:
    config = build(settings)
    again = build(json.loads(json.dumps(config.given)))
    assert again == config
    assert again.given == config.given


def test_given_holds_what_the_user_set_by_canonical_name() -> None:
    assert build({"lr": "1e-4", "lora_target_modules": "q,v"}).given == {
        "learning_rate": 1e-4,
        "lora_target_modules": ["q", "v"],
    }


@pytest.mark.parametrize(
    ("settings", "quantised", "use_peft", "rate"),
    [
        ({}, False, False, 2e-5),
        ({}, True, True, 2e-4),
        ({"load_in_4bit": True}, False, True, 2e-4),
        ({"use_peft": True}, False, True, 2e-4),
        ({"use_peft": True, "learning_rate": 1e-6}, False, True, 1e-6),
    ],
)
def test_settled_decides_the_adapter_and_the_rate(
    settings: dict[str, Any], quantised: bool, use_peft: bool, rate: float
) -> None:
    config = build(settings)
    settled = config.settled(quantised=quantised)
    assert (settled.use_peft, settled.learning_rate) == (use_peft, rate)
    assert settled.given == config.given


def test_a_config_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        build().seed = 1  # type: ignore[misc]


@pytest.mark.parametrize("cls", CONFIGS.values(), ids=CONFIGS)
def test_each_default_names_its_source_and_each_setting_its_meaning(cls: type[TrainingConfig]) -> None:
    settings = describe(cls)
    assert {s.name for s in settings} == set(cls.model_fields)
    assert all(s.source and s.description.endswith(".") and s.group for s in settings)
    assert all(dataclasses.asdict(s)["type"] for s in settings)


# the file


def test_a_yaml_file_says_what_it_seems_to_say(tmp_path: Path) -> None:
    text = "learning_rate: 1e-4\nrevision: no\nsplit: 1:30\npacking: true\nseed: ~\n"
    assert read(tmp_path, text) == {
        "learning_rate": 1e-4,
        "revision": "no",
        "split": "1:30",
        "packing": True,
        "seed": None,
    }


def test_json_and_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    assert read(tmp_path, '{"seed": 1}', "run.json") == {"seed": 1}
    assert read(tmp_path, "\ufeffseed: 1") == {"seed": 1}


def test_a_key_twice_names_both_lines(tmp_path: Path) -> None:
    assert "lines 1 and 3" in misread(tmp_path, "seed: 1\npacking: true\nseed: 2\n")


@pytest.mark.parametrize(
    "text",
    [
        "a: {seed: 1, seed: 2}",
        "seed: 1\n\tpacking: true",
        "seed: &x 1\nlora_r: *x",
        "seed: !!python/object/apply:os.getcwd []",
        "seed: !secret 1",
        "- seed",
        "",
        "just text",
        "seed: [1",
        "a: 1\n---\nb: 2",
    ],
)
def test_a_strange_file_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    assert misread(tmp_path, text)


def test_a_tab_is_named(tmp_path: Path) -> None:
    assert "tab" in misread(tmp_path, "seed: 1\n\tpacking: true")


def test_the_line_of_a_bad_setting_is_told(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("seed: 1\nlora_r: many\n", "utf-8")
    with pytest.raises(ConfigError, match=r"run\.yaml:2"):
        build_config(SftConfig, [file_layer(path)])


@pytest.mark.parametrize("config", [3, [1], object()])
def test_a_config_that_is_no_path_and_no_mapping_is_refused(config: Any) -> None:
    with pytest.raises(ConfigError, match="give a path or a mapping"):
        file_layer(config)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        file_layer(tmp_path / "none.yaml")
