"""The suite has rows and another value for everything that core knows; for what a plugin brings, it finds one."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from aligntune_core.config import CONFIGS, CORE_SETTINGS, TrainingConfig, build_config
from aligntune_core.config.fields import Names, OptionalSteps, PositiveInt, Share
from aligntune_core.config.load import Layer
from aligntune_core.config import SftConfig, setting
from aligntune_core.data.formats import normalise, recognise
from aligntune_core.testing.suite import samples

TABLES = (CORE_SETTINGS, samples.OTHER, samples.YOURS, samples.ELSEWHERE, samples.UNSEEN)


@pytest.mark.parametrize("config", CONFIGS.values())
def test_each_setting_of_core_is_in_one_table(config: type[TrainingConfig]) -> None:
    count = {name: sum(name in table for table in TABLES) for name in config.model_fields}
    assert {name: n for name, n in count.items() if n != 1} == {}


@pytest.mark.parametrize("name", samples.OTHER)
def test_another_value_is_valid_beside_what_must_be_given_with_it(name: str) -> None:
    other = samples.OTHER[name]
    layer = Layer({**other.given, name: other.value})
    config = build_config(SftConfig, [layer])
    assert getattr(config, name) != SftConfig.model_fields[name].get_default()


@pytest.mark.parametrize(("algorithm", "task"), samples.ROWS)
def test_the_rows_are_of_a_format_that_core_reads(algorithm: str, task: str) -> None:
    rows = samples.rows_for(algorithm, task)
    row_format = recognise(rows[0])
    assert row_format.task == task or task == "supervised_fine_tuning"
    assert all(normalise(row, row_format) for row in rows)
    assert samples.question_of(rows[0])


def test_an_algorithm_that_core_does_not_know_trains_on_the_rows_of_sft() -> None:
    assert samples.rows_for("odd", "text_generation") == samples.rows_for("sft", "text_generation")
    assert samples.rows_for("dpo", "text_generation") == []


class OddConfig(SftConfig):
    algorithm = "odd"
    switch: bool = setting(False, "On or off.")
    maybe: bool | None = setting(None, "On, off, or decided later.")
    count: PositiveInt = setting(3, "How many.")
    unset: OptionalSteps = setting(None, "How many, or none.")
    share: Share = setting(0.9, "How much.")
    nothing: Annotated[float, Field(ge=0, le=0.5)] = setting(0.0, "How much, to a half.")
    edge: Annotated[int, Field(ge=1, le=2)] = setting(2, "One or two.")
    kind: Literal["a", "b"] = setting("a", "Which.")
    text: str = setting("a", "Any text.")
    names: Names = setting((), "Any names.")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("switch", True),
        ("maybe", True),
        ("count", 6),
        ("unset", 2),
        ("share", 0.45),
        ("nothing", 0.25),
        ("edge", 1),
        ("kind", "b"),
        ("text", None),
        ("names", None),
    ],
)
def test_a_setting_of_a_plugin_gets_a_value_from_its_type_and_bounds(name: str, value: Any) -> None:
    assert samples.another_value(OddConfig, name) == value
