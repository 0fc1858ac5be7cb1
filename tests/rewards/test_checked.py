"""format, math and json_schema: checked in a child process that may hang, die or be killed, and costs no run."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from aligntune_core.errors import ConfigError, RewardError
from aligntune_core.rewards import apart
from aligntune_core.rewards.apart import Apart
from aligntune_core.rewards.bound import BoundReward
from aligntune_core.rewards.builtin import checked
from aligntune_core.rewards.resolve import resolve

from .conftest import Score

ENDLESS = r"\boxed{9^{9^{9^{9^{9}}}}}"


@pytest.fixture(scope="module")
def maths() -> BoundReward:
    """One child for all questions about mathematics: it imports sympy."""
    return resolve([{"name": "math", "seconds": 2.0}])[0]


def child_of(reward: BoundReward) -> int:
    """The process id of a reward's child."""
    cells = reward.function.__closure__ or ()
    (home,) = (cell.cell_contents for cell in cells if isinstance(cell.cell_contents, Apart))
    assert home._child is not None
    return home._child.process.pid


# format ------------------------------------------------------------------------------------------------------------


def test_format_matches_the_whole_text_and_a_dot_matches_line_breaks(score: Score) -> None:
    reward = {"name": "format", "pattern": "<think>.*</think>.+"}
    texts = ["<think>a\nb</think>c", "<think>a</think>", "x<think>a</think>c", [{"content": "<think></think>x"}]]
    assert score(reward, texts) == [1.0, 0.0, 0.0, 1.0]


def test_format_allows_nothing_before_or_after(score: Score) -> None:
    assert score({"name": "format", "pattern": "ab"}, ["ab", "abc", "xab", "ab\n"]) == [1.0, 0.0, 0.0, 0.0]


def test_format_may_look_for_a_part(score: Score) -> None:
    assert score({"name": "format", "pattern": r"\d+", "full": False}, ["a 12 b", "none"]) == [1.0, 0.0]


def test_a_pattern_that_explodes_costs_its_own_text_alone(score: Score, caplog: pytest.LogCaptureFixture) -> None:
    (reward,) = resolve([{"name": "format", "pattern": "(a+)+b", "seconds": 0.3}])
    began = time.monotonic()
    with caplog.at_level(logging.WARNING, "aligntune"):
        assert score(reward, ["aab", "a" * 64, "a" * 64, "ab"]) == [1.0, 0.0, 0.0, 1.0]
    assert time.monotonic() - began < 4
    assert [record.message.partition(" within")[0] for record in caplog.records] == [
        "format: a completion could not be checked"
    ]


def test_lone_surrogates_and_null_bytes_are_text_too(score: Score) -> None:
    assert score({"name": "format", "pattern": ".{3}"}, ["\ud800\0x", "\u2028\n\r"]) == [1.0, 1.0]


def test_a_batch_of_texts_that_explode_ends_all_the_same(score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "PATIENCE", 2)
    (reward,) = resolve([{"name": "format", "pattern": "(a+)+b", "seconds": 0.3}])
    began = time.monotonic()
    assert score(reward, ["a" * 64] * 16 + ["ab"]) == [0.0] * 16 + [1.0]
    assert time.monotonic() - began < 16 * 0.3


# math --------------------------------------------------------------------------------------------------------------

EQUAL = [
    (r"so \boxed{\frac{2}{4}}", "1/2"),
    (r"so \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
    ("The answer is $0.5$.", r"\boxed{\frac{1}{2}}"),
    ("it is 42", "42"),
    (r"\boxed{(1,2)}", "(1,2)"),
    (r"\boxed{x^2+2x+1}", "$(x+1)^2$"),
]
UNEQUAL = [
    (r"\boxed{\frac{1}{3}}", "1/2"),
    (r"\boxed{3} or \boxed{4}", "4"),
    ("no idea", "1/2"),
    ("", "7"),
    (r"\boxed{", "7"),
    (r"\boxed{{{}}", "7"),
]


def test_math_knows_what_is_equal(maths: BoundReward, score: Score) -> None:
    texts, answers = zip(*EQUAL, *UNEQUAL, strict=True)
    assert score(maths, texts, answer=answers) == [1.0] * len(EQUAL) + [0.0] * len(UNEQUAL)


def test_math_does_not_apply_where_the_answer_is_no_mathematics(maths: BoundReward, score: Score) -> None:
    assert score(maths, ["4"] * 3, answer=[None, "Paris", 4]) == [None, None, 1.0]


def test_a_formula_that_takes_for_ever_scores_nothing_and_the_next_are_judged(maths: BoundReward, score: Score) -> None:
    began = time.monotonic()
    assert score(maths, [ENDLESS, r"\boxed{4}", "4"], answer=["5", "4", "5"]) == [0.0, 1.0, 0.0]
    assert time.monotonic() - began < 8


def test_a_child_that_was_killed_is_replaced(maths: BoundReward, score: Score) -> None:
    score(maths, ["4"], answer=["4"])
    killed = child_of(maths)
    os.kill(killed, signal.SIGKILL)
    assert score(maths, ["4", "5"], answer=["4", "4"]) == [1.0, 0.0]
    assert child_of(maths) != killed


def test_a_child_that_no_longer_answers_is_replaced(score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "GRACE", 0.1)
    (reward,) = resolve([{"name": "format", "pattern": "a", "seconds": 1.0}])
    score(reward, ["a"])
    stopped = child_of(reward)
    os.kill(stopped, signal.SIGSTOP)
    assert score(reward, ["a", "a", "b"]) == [0.0, 1.0, 0.0]
    with pytest.raises(ProcessLookupError):
        os.kill(stopped, 0)


FRAIL = """
import json, os, sys
for number, line in enumerate(sys.stdin):
    text = json.loads(line).get("text")
    if text == "die":
        os._exit(1)
    print(json.dumps({"error": "KeyError: 'x'"} if text == "fail" else {"score": 1.0}), flush=True)
"""


def test_a_completion_at_which_the_child_dies_scores_nothing(
    score: Score, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "child.py").write_text(FRAIL, "utf-8")
    monkeypatch.setattr(apart, "PROGRAM", tmp_path / "child.py")
    assert score({"name": "format", "pattern": "a"}, ["a", "die", "a"]) == [1.0, 0.0, 1.0]


def test_a_check_that_fails_is_told_with_its_row(score: Score, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "child.py").write_text(FRAIL, "utf-8")
    monkeypatch.setattr(apart, "PROGRAM", tmp_path / "child.py")
    with pytest.raises(RewardError, match="reward = 'format': row 18: the check failed: KeyError: 'x'; "):
        score({"name": "format", "pattern": "a"}, ["a", "fail", "a"])


def test_the_child_has_little_memory_and_writes_no_files(score: Score) -> None:
    (reward,) = resolve([{"name": "format", "pattern": "a"}])
    score(reward, ["a"])
    limits = Path(f"/proc/{child_of(reward)}/limits").read_text("ascii")
    assert re.search(r"Max address space +2147483648 +2147483648 ", limits)
    assert re.search(r"Max file size +0 +0 ", limits)


def test_the_child_sees_no_secret_and_ends_with_its_reward(score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    (reward,) = resolve([{"name": "format", "pattern": "a"}])
    score(reward, ["a"])
    child = child_of(reward)
    assert b"PATH=" in Path(f"/proc/{child}/environ").read_bytes()
    assert b"hf_secret" not in Path(f"/proc/{child}/environ").read_bytes()
    del reward
    until = time.monotonic() + 5
    while Path(f"/proc/{child}").exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert not Path(f"/proc/{child}").exists()


def test_what_a_model_writes_is_not_evaluated_here(maths: BoundReward, score: Score, tmp_path: Path) -> None:
    evil = f"__import__('pathlib').Path('{tmp_path}/made').write_text('x')"
    texts = [evil, f"${evil}$", rf"\boxed{{{evil}}}", f"the answer is {evil}"]
    score(maths, texts, answer=["1"] * 4)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(("name", "package"), [("math", "math_verify"), ("json_schema", "jsonschema")])
def test_without_its_package_a_reward_is_refused_with_the_extra(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checked, "find_spec", lambda wanted: None if wanted == package else wanted)
    options = {"schema": {}} if name == "json_schema" else {}
    with pytest.raises(ConfigError, match=rf"'{name}': needs the package .*; pip install 'aligntune\[(math|json)\]'"):
        resolve([{"name": name, **options}])


def test_a_child_that_cannot_start_is_told(score: Score, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "child.py").write_text("raise SystemExit(3)\n", "utf-8")
    monkeypatch.setattr(apart, "PROGRAM", tmp_path / "child.py")
    with pytest.raises(
        RewardError, match="reward = 'format': in a batch of row 17: it raised RuntimeError: the process"
    ):
        score({"name": "format", "pattern": "a"}, ["a"])


# json_schema -------------------------------------------------------------------------------------------------------

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "pattern": "^(x+)+$"}, "next": {"$ref": "#"}},
    "required": ["name"],
    "additionalProperties": False,
}
FITS = ['{"name": "x"}', ' {"name": "xx", "next": {"name": "x"}}\n']
FITS_NOT = [
    "[]",
    "{}",
    '{"name": "x", "more": 1}',
    '{"name": "x"',
    '{"name": "x"} and so on',
    '{"name": NaN}',
    "",
    '{"next":' * 200 + "{}" + "}" * 200,
    "[" * 100_000,
    '{"name": "' + "x" * 1_000_001 + '"}',
]


def test_json_must_be_whole_small_and_of_the_schema(score: Score) -> None:
    expected = [1.0] * len(FITS) + [0.0] * len(FITS_NOT)
    assert score({"name": "json_schema", "schema": SCHEMA}, FITS + FITS_NOT) == expected


def test_whatever_the_schema_allows_it_must_be_json_and_not_too_deep(score: Score) -> None:
    texts = ["[" * 99 + "]" * 99, "[" * 101 + "]" * 101, "[NaN]", "[Infinity]", "{'a': 1}", "[]"]
    assert score({"name": "json_schema", "schema": {}}, texts) == [1.0, 0.0, 0.0, 0.0, 0.0, 1.0]


def test_a_schema_may_be_a_file(score: Score, tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA), "utf-8")
    assert score({"name": "json_schema", "schema": str(tmp_path / "schema.json")}, FITS) == [1.0, 1.0]


def test_a_pattern_in_a_schema_that_explodes_costs_its_own_text_alone(score: Score) -> None:
    texts = ['{"name": "' + "x" * 64 + 'y"}', '{"name": "x"}']
    assert score({"name": "json_schema", "schema": SCHEMA, "seconds": 0.3}, texts) == [0.0, 1.0]


def test_a_number_that_the_library_cannot_reckon_with_ends_no_run(score: Score) -> None:
    reward = {"name": "json_schema", "schema": {"multipleOf": 0.01}}
    assert score(reward, ["1" + "0" * 400, "1e999", "0.07"])[:2] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "objekt"}, "the schema is not valid: 'objekt' is not valid"),
        ({"$ref": "https://example.org/schema.json"}, "refers to https://example.org/schema.json; it may refer to its"),
        ({"allOf": [{"$ref": "other.json#/a"}]}, "refers to other.json#/a; it may refer to its own parts"),
        ({"$ref": "#/$defs/gone"}, "which it does not have"),
        ([], "schema must be a mapping, or the path of a JSON file"),
        (3, "schema must be a mapping"),
        ("gone.json", "the schema gone.json cannot be read: No such file"),
        ("broken.json", "the schema broken.json is no JSON: Expecting"),
    ],
)
def test_a_schema_that_cannot_be_is_refused(
    schema: Any, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.json").write_text("{", "utf-8")
    with pytest.raises(ConfigError) as caught:
        resolve([{"name": "json_schema", "schema": schema}])
    assert says in str(caught.value)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), True, "5"])
def test_a_time_that_is_none_is_refused(seconds: Any) -> None:
    with pytest.raises(ConfigError, match="seconds must be"):
        resolve([{"name": "format", "pattern": "x", "seconds": seconds}])
