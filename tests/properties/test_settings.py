"""Settings may say anything: they become one config, or one error with every bad field; a config can be said again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from aligntune_core.config import CONFIGS, Layer, SftConfig, TrainingConfig, build_config, file_layer, setting
from aligntune_core.config.aliases import BY_ALIAS
from aligntune_core.config.describe import describe
from aligntune_core.config.fields import Names, Options, PositiveFloat, Share
from aligntune_core.config.names import OPTIMIZERS, SCHEDULERS
from aligntune_core.errors import ConfigError
from aligntune_core.isolation.travel import settings_again
from aligntune_core.values import MODEL_TYPES, TASKS


class OwnConfig(SftConfig):
    """The settings of an algorithm that a plugin brings."""

    algorithm = "own"

    beta: PositiveFloat = setting(0.1, "How much.", "nobody")
    share: Share | None = setting(None, "Which part.", "nobody")
    rewards: Names = setting((), "What is rewarded.", "nobody")
    extra: Options = setting({}, "Anything else.", "nobody")


CLASSES = {**CONFIGS, "own": OwnConfig}
WORDS = [
    *SCHEDULERS,
    *OPTIMIZERS,
    *TASKS,
    *MODEL_TYPES,
    "auto",
    "none",
    "sigmoid",
    "group",
    "head",
    "fp32",
    "bf16",
    "all-linear",
    "two words",
    "a.b/c",
]
CANDIDATES = [
    *(True, False, 0, 1, 2, 7, 1000, 2**31 - 1, 2**32 - 1, 0.0, 1e-9, 0.03, 0.5, 0.999, 1.0, 1.5, 32.0, 1e6),
    *(*WORDS, "ünï-ćode", "日本", "a: b # c", 'it\'s "quoted"', "1e-4", "yes", "~", "0x10", "null", "{a: b}"),
    *([], [0.5], ["q_proj"], ["q_proj", "v_proj"], {}, {"prompt": "question"}, {"a": {"b": [1, None, True, 0.5]}}),
]
"""Values of every kind; each setting takes those that it accepts. The library trackers are not installed everywhere."""
TEXT = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Co", "Cn", "Cc"]), min_size=1, max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)


@cache
def _adapter(cls: type[TrainingConfig], name: str) -> TypeAdapter[Any]:
    field = cls.model_fields[name]
    parts = (field.annotation, *field.metadata)
    return TypeAdapter(Annotated[parts] if len(parts) > 1 else parts[0])


def _takes(cls: type[TrainingConfig], name: str, value: Any) -> bool:
    try:
        _adapter(cls, name).validate_python(value)
    except ValidationError:
        return False
    return value is not None


@cache
def values_of(cls: type[TrainingConfig], name: str) -> st.SearchStrategy[Any]:
    """What a setting takes: the candidates that it accepts, and more of the kinds that it accepts.

    It looks at nothing but the setting's own type, so that a new setting is tried without a word here.
    """
    kept = [value for value in CANDIDATES if _takes(cls, name, value)]
    assert kept, f"no value is known that {name} takes: add one to CANDIDATES"
    kinds: list[st.SearchStrategy[Any]] = [st.sampled_from(kept)]
    if _takes(cls, name, 7):
        kinds.append(st.integers(1, 2**31 - 1))
    if _takes(cls, name, 0.5):
        kinds.append(st.floats(1e-12, 0.999))
    if _takes(cls, name, "two words"):
        kinds.append(TEXT)
    if _takes(cls, name, {"a": {"b": [1]}}):
        kinds.append(st.dictionaries(TEXT, JSON, max_size=2))
    elif _takes(cls, name, {"a": "b"}):
        kinds.append(st.dictionaries(TEXT, TEXT, max_size=2))
    if _takes(cls, name, ["q_proj"]) and name != "report_to":
        kinds.append(st.lists(TEXT, max_size=2))
    return st.one_of(kinds).filter(lambda value: _takes(cls, name, value))


@cache
def valid(cls: type[TrainingConfig]) -> st.SearchStrategy[dict[str, Any]]:
    """Some settings of a class, each with a value that it takes."""
    return st.lists(st.sampled_from(sorted(cls.model_fields)), max_size=6, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: values_of(cls, name) for name in names})
    )


AT_ODDS = (
    *("beside", "combined", "with an adapter", "not installed", "has no effect", "give one for each"),
    *("no multiple", "always 1", "not less than", "at least 2", "advantages of all others"),
    *("is not known", "are streamed"),
)


def built(cls: type[TrainingConfig], given: Mapping[str, Any]) -> TrainingConfig:
    """The config; settings that are at odds with each other are passed over."""
    try:
        return build_config(cls, [Layer(dict(given))])
    except ConfigError as error:
        assume(not any(text in str(error) for text in AT_ODDS))
        raise


def check_told(error: ConfigError) -> None:
    """One printable line of bounded length for each problem, with its field and a remedy."""
    assert len(str(error).split("\n")) == len(error.problems) > 0
    assert all(str(p).isprintable() and len(str(p)) < 1200 and p.field and p.remedy for p in error.problems)


ANY = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), TEXT, st.text(max_size=3), st.binary(max_size=3),
    st.sampled_from(CANDIDATES), st.lists(st.integers() | TEXT, max_size=2), st.dictionaries(TEXT, JSON, max_size=2),
    st.builds(object), st.just("x" * 10_000), st.just(10**400), st.just(BaseModel),
)  # fmt: skip
NAMES = st.sampled_from(
    [*OwnConfig.model_fields, *(alias for alias, name in BY_ALIAS.items() if name in OwnConfig.model_fields)]
)


@pytest.mark.parametrize("name", CLASSES)
@settings(max_examples=240)
@given(
    settings_given=st.dictionaries(NAMES | st.text(max_size=9), ANY, max_size=5),
    origin=st.sampled_from(["", "run.yaml"]),
)
def test_any_mapping_is_a_config_or_one_error_of_printable_lines(
    name: str, settings_given: dict[str, Any], origin: str
) -> None:
    try:
        config = build_config(CLASSES[name], [Layer(settings_given, origin)])
    except ConfigError as error:
        check_told(error)
    else:
        assert isinstance(config, CLASSES[name])
        assert len(config.given) <= len(settings_given)


@settings(max_examples=700)
@given(st.dictionaries(NAMES, ANY, max_size=5))
def test_every_field_that_is_bad_alone_is_told_with_all_the_others(given_values: dict[str, Any]) -> None:
    names = [BY_ALIAS.get(name, name) for name in given_values]
    assume(len(set(names)) == len(names))
    bad = {
        BY_ALIAS.get(name, name)
        for name, value in given_values.items()
        if value is not None and not _takes(OwnConfig, BY_ALIAS.get(name, name), value)
    }
    try:
        build_config(OwnConfig, [Layer(given_values)])
    except ConfigError as error:
        told = {problem.field for problem in error.problems}
        assert told == bad if bad else told
    else:
        assert not bad


class _Quoted(yaml.SafeDumper):
    """Text in quotes, as one writes what YAML would read as something else."""


_Quoted.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))


@pytest.mark.parametrize("name", CLASSES)
@settings(max_examples=60)
@given(data=st.data())
def test_a_config_survives_a_file(name: str, data: st.DataObject, tmp_path: Path) -> None:
    config = built(CLASSES[name], data.draw(valid(CLASSES[name])))
    for path, text in (
        (tmp_path / "run.yaml", yaml.dump(config.given, Dumper=_Quoted, allow_unicode=True)),
        (tmp_path / "run.json", json.dumps(config.given)),
    ):
        path.write_text(text, "utf-8")
        again = build_config(CLASSES[name], [file_layer(path) if config.given else Layer({})])
        assert again == config
        assert again.given == config.given


@pytest.mark.parametrize("name", CLASSES)
@settings(max_examples=70)
@given(data=st.data())
def test_the_whole_of_a_config_survives_json(name: str, data: st.DataObject) -> None:
    config = built(CLASSES[name], data.draw(valid(CLASSES[name])))
    whole = json.loads(json.dumps(config.model_dump(mode="json"), allow_nan=False))
    if whole["max_steps"] is not None:
        del whole["num_epochs"]  # one of the two is said
    assert build_config(CLASSES[name], [Layer(whole)]) == config


@pytest.mark.parametrize("name", CLASSES)
@settings(max_examples=60)
@given(data=st.data(), quantised=st.booleans())
def test_a_config_survives_the_way_to_a_worker(name: str, data: st.DataObject, *, quantised: bool) -> None:
    config = built(CLASSES[name], data.draw(valid(CLASSES[name])))
    assume(config.use_peft is not False or not quantised)
    config = config.settled(quantised=quantised)
    told = json.loads(json.dumps(config.model_dump(mode="json"), allow_nan=False))
    again = settings_again(CLASSES[name], told, sorted(config.model_fields_set))
    assert again == config
    assert again.given == config.given


def _flag(cls: type[TrainingConfig], name: str, value: Any) -> str | None:
    """A value as a flag says it; None where a flag cannot, such as a list of words with commas."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        parts = list(map(str, value))
        plain = all("," not in part and part == part.strip() and part.lower() not in ("", "none") for part in parts)
        return ",".join(parts) if plain else None
    if isinstance(value, dict) and _takes(cls, name, {"a": {}}):
        return json.dumps(value)
    if isinstance(value, dict):
        words = [*value, *value.values()]
        plain = all(word == word.strip() and word and not set(",=") & set(word) for word in words)
        return ",".join(f"{key}={word}" for key, word in value.items()) if plain else None
    return None if isinstance(value, int | float) and _takes(cls, name, True) else str(value)


@pytest.mark.parametrize("name", CLASSES)
@settings(max_examples=90)
@given(data=st.data())
def test_a_config_survives_flags(name: str, data: st.DataObject) -> None:
    cls = CLASSES[name]
    flags = {n: (v, _flag(cls, n, v)) for n, v in data.draw(valid(cls)).items()}
    wanted = {n: value for n, (value, flag) in flags.items() if flag is not None}
    config = built(cls, wanted)
    assert build_config(cls, [Layer({n: flags[n][1] for n in wanted})]) == config


def test_every_setting_has_values_that_are_tried() -> None:
    for cls in CLASSES.values():
        assert {s.name for s in describe(cls)} == set(cls.model_fields)
        for name in cls.model_fields:
            values_of(cls, name)
