"""The suite has rows and another value for everything that core knows; for what a plugin brings, it finds one."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from aligntune_core.config import CONFIGS, CORE_SETTINGS, SftConfig, TrainingConfig, build_config, setting
from aligntune_core.config.fields import Names, OptionalSteps, PositiveInt, Share
from aligntune_core.config.load import Layer
from aligntune_core.data.formats import shape_of, task_of
from aligntune_core.data.reading import contents, find_reading
from aligntune_core.testing.suite import samples
from aligntune_core.testing.suite.base import USUAL

TABLES = (CORE_SETTINGS, samples.OTHER, samples.YOURS, samples.ELSEWHERE, samples.UNSEEN)


@pytest.mark.parametrize("config", CONFIGS.values())
def test_each_setting_of_core_is_in_one_table(config: type[TrainingConfig]) -> None:
    count = {name: sum(name in table for table in TABLES) for name in config.model_fields}
    assert {name: n for name, n in count.items() if n != 1} == {}


HAVING = [(cls, name) for cls in CONFIGS.values() for name in samples.OTHER if name in cls.model_fields]


@pytest.mark.parametrize(("cls", "name"), HAVING, ids=lambda part: getattr(part, "algorithm", part))
def test_another_value_is_valid_beside_what_must_be_given_with_it(cls: type[TrainingConfig], name: str) -> None:
    other = samples.OTHER[name]
    usual = {**USUAL, **samples.USUAL[cls.rows], **other.given}
    given = {n: v for n, v in usual.items() if n in cls.model_fields and n not in other.without}
    config = build_config(cls, [Layer({**given, name: other.value})])
    assert getattr(config, name) != getattr(build_config(cls, [Layer(given)]), name)


@pytest.mark.parametrize(("kind", "task"), samples.ROWS)
def test_the_rows_are_of_a_format_that_core_reads(kind: Any, task: str) -> None:
    rows = samples.rows_for(kind, task)
    row_format = find_reading(contents(rows), {}, "dataset_name", "", kind).format
    shaped = [row_format.shape(row, None) for row in rows]
    assert len({shape_of(row, kind) for row in shaped}) == 1
    spoken = task_of(row_format, shape_of(shaped[0], kind))
    assert spoken == task or task in ("supervised_fine_tuning", "instruction_following")
    assert samples.question_of(rows[0])


def test_there_are_no_rows_for_what_no_algorithm_of_ours_trains() -> None:
    assert samples.rows_for("preferences", "token_classification") == []


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
