"""Rows with labels: which kind they are, what the labels are called, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aligntune_core.config import Layer, SftConfig, build_config
from aligntune_core.data.labelled import labelled, tagged
from aligntune_core.data.numbering import Numbering
from aligntune_core.data.read import load_rows
from aligntune_core.errors import ConfigError, DataError

SETTINGS = build_config(SftConfig, [])
WHERE = ("dataset_name", "rows.jsonl")


def texts(*labels: Any) -> list[dict[str, Any]]:
    return [labelled({"text": f"text {number}", "label": label}, None) for number, label in enumerate(labels)]


def numbering(rows: list[dict[str, Any]], own: tuple[str, ...] = (), model: tuple[str, ...] = ()) -> Numbering:
    return Numbering.of(rows, own, model, *WHERE)


@pytest.mark.parametrize(
    ("labels", "problem", "names", "numbers"),
    [
        (["b", "a", "b"], "single", ("a", "b"), [1, 0, 1]),
        ([10, 2, 10], "single", ("2", "10"), [1, 0, 1]),
        ([True, False], "single", ("false", "true"), [1, 0]),
        ([3.0, 1.0], "single", ("1", "3"), [1, 0]),
        ([["x", "y"], [], ["y"]], "multi", ("x", "y"), [[0, 1], [], [1]]),
        ([0.5, 2.0], "regression", (), [0.5, 2.0]),
        (["0.5", "2"], "regression", (), [0.5, 2.0]),
    ],
)
def test_labels_say_what_is_to_be_learnt(labels, problem, names, numbers):
    rows = texts(*labels)
    found = numbering(rows)
    assert (found.labels.problem, found.labels.names) == (problem, names)
    assert [row["label"] for row in found.apply(rows, *WHERE)] == numbers


def test_words_are_labelled_one_by_one():
    rows = [tagged({"tokens": ["a", "b"], "labels": ["O", "B-x"]}, None)]
    found = numbering(rows)
    assert found.labels.problem == "tokens"
    assert found.apply(rows, *WHERE) == [{"tokens": ["a", "b"], "labels": [1, 0]}]


def test_names_that_come_with_the_data_are_told_by_number():
    found = numbering(texts(1, 0), own=("bad", "good"))
    assert found.labels.names == ("bad", "good")
    assert [row["label"] for row in found.apply(texts(1, 0), *WHERE)] == [1, 0]


@pytest.mark.parametrize("labels", [("POS", "NEG"), (1, 0)], ids=["names", "numbers"])
def test_a_checkpoints_labels_keep_their_order(labels):
    found = numbering(texts(*labels), model=("POS", "NEG") if labels[0] == "POS" else ("NEG", "POS"))
    assert found.labels.names == (("POS", "NEG") if labels[0] == "POS" else ("NEG", "POS"))
    assert [row["label"] for row in found.apply(texts(*labels), *WHERE)] == ([0, 1] if labels[0] == "POS" else [1, 0])


def said(names: tuple[str, ...], *labels: Any) -> list[Any]:
    """What the numbers of labels mean, where a checkpoint's labels are called so."""
    rows = load_rows(SETTINGS, [{"text": "x", "label": label} for label in labels], None, names)
    return [rows.labels.names[row["label"]] for row in rows.train]


@pytest.mark.parametrize("labels", [(1, 2, 2), ("1", "2", "2"), (1, 2, 3), ("3", "1", "2")])
def test_a_label_that_is_a_name_of_the_checkpoint_means_that_one_though_its_digits_are_a_number(labels):
    assert said(("1", "2", "3"), *labels) == [str(label) for label in labels]


@pytest.mark.parametrize("labels", [(0, 1), ("0", "1")], ids=["numbers", "text of CSV"])
def test_numbers_are_those_of_the_checkpoints_names_where_no_label_is_a_name(labels):
    assert said(("neg", "pos", "none"), *labels) == ["neg", "pos"]


@pytest.mark.parametrize(("one", "other"), [((0, 1), ("neg", "pos")), (("neg", "pos"), (0, 1))])
def test_evaluation_rows_may_say_names_where_those_to_train_on_say_numbers_and_the_other_way_round(one, other):
    train, held_back = ([{"text": "x", "label": label} for label in labels] for labels in (one, other))
    rows = load_rows(SETTINGS, train, held_back, ("neg", "pos"))
    assert list(rows.eval["label"]) == list(rows.train["label"]) == [0, 1]


def test_labels_of_digits_in_text_are_ordered_by_their_numbers():
    assert numbering(texts(*(str(n) for n in range(12)))).labels.names == tuple(str(n) for n in range(12))


def test_a_word_may_be_without_a_label():
    rows = load(rows=[{"tokens": ["a", "b"], "labels": [7, -100]}, {"tokens": ["c"], "labels": [3]}])
    assert rows.labels.names == ("3", "7")
    assert list(rows.train["labels"]) == [[1, -100], [0]]


@pytest.mark.parametrize(("count", "warned"), [(30, True), (10, False)])
def test_whole_numbers_that_look_like_values_are_told(count, warned, caplog):
    load(rows=[{"text": "x", "label": 10 * n} for n in range(count)])
    assert ("regression needs numbers with a decimal point" in caplog.text) is warned


@given(st.lists(st.sampled_from(["a", "b", "c", "ä", "10"]), min_size=2, unique=True), st.randoms())
def test_the_order_of_rows_does_not_change_the_numbers(labels, shuffle):
    turned = list(labels)
    shuffle.shuffle(turned)
    assert numbering(texts(*labels)).keys == numbering(texts(*turned)).keys


@pytest.mark.parametrize(
    ("labels", "problem"),
    [(["a", 1], "some labels are numbers and some are words"), (["a", "a"], "every row has the label 'a'")],
)
def test_labels_that_cannot_be_learnt_are_refused(labels, problem):
    with pytest.raises(DataError, match=problem):
        numbering(texts(*labels))


def test_a_label_of_the_evaluation_rows_that_training_does_not_have_is_named_with_its_row():
    with pytest.raises(DataError, match=r"row 2, label 'c': none of a, b"):
        numbering(texts("a", "b")).apply(texts("a", "c"), *WHERE)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"text": "x", "label": None}, "column 'label': null, expected a label"),
        ({"text": "x", "label": ""}, "column 'label': an empty text, expected a label"),
        ({"text": "x", "label": float("nan")}, "column 'label': nan is no label"),
        ({"text": 3, "label": "a"}, "column 'text': a number, expected text"),
    ],
)
def test_a_text_without_a_label_is_no_row(row, problem):
    with pytest.raises(ValueError, match=problem):
        labelled(row, None)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"tokens": ["a", "b"], "labels": ["O"]}, "2 words and 1 labels"),
        ({"tokens": "a b", "labels": ["O"]}, "column 'tokens': text, expected a list"),
        ({"tokens": ["a"], "labels": [None]}, "column 'labels': null, expected a label"),
        ({"tokens": [1], "labels": ["O"]}, "column 'tokens': it holds a number"),
    ],
)
def test_words_and_labels_must_fit(row, problem):
    with pytest.raises(ValueError, match=problem):
        tagged(row, None)


# in files


def load(**given: Any) -> Any:
    rows, eval_rows = given.pop("rows", None), given.pop("eval_rows", None)
    return load_rows(build_config(SftConfig, [Layer(given)]), rows, eval_rows)


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(path)


def test_labels_of_several_data_sets_get_their_numbers_together(tmp_path):
    names = [write(tmp_path / f"{n}.jsonl", [{"text": "x", "label": label}]) for n, label in enumerate(["b", "a"])]
    rows = load(dataset_name=names)
    assert rows.labels.names == ("a", "b")
    assert [row["label"] for row in rows.train] == [1, 0]
    assert (rows.task, rows.columns.used) == ("text_classification", ("text", "label"))


def test_a_data_set_of_other_labels_is_refused_for_evaluation_with_the_row(tmp_path):
    name = write(tmp_path / "rows.jsonl", [{"text": "x", "label": label} for label in "ab"])
    other = write(tmp_path / "other.jsonl", [{"text": "x", "label": label} for label in "ac"])
    with pytest.raises(DataError, match="row 2, label 'c': none of a, b"):
        load(dataset_name=name, eval_dataset_name=other)


def named(*names: str) -> Any:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=list(names))})
    return datasets.Dataset.from_list([{"text": "x", "label": 0}, {"text": "y", "label": 1}], features=features)


def test_numbers_that_mean_other_labels_for_evaluation_are_refused():
    assert load(rows=named("bad", "good"), eval_rows=named("bad", "good")).labels.names == ("bad", "good")
    with pytest.raises(DataError, match="names its labels good, bad; 'in memory' bad, good"):
        load(rows=named("bad", "good"), eval_rows=named("good", "bad"))


def test_numbers_for_evaluation_that_may_be_names_or_their_numbers_are_refused():
    plain = [{"text": "x", "label": 1}]
    assert load(rows=named("bad", "good"), eval_rows=plain).eval[0]["label"] == 1
    with pytest.raises(DataError, match="'in memory' names its labels not at all; 'in memory' 1, 2"):
        load(rows=named("1", "2"), eval_rows=plain)


def test_data_sets_of_texts_and_of_labelled_texts_are_not_mixed(tmp_path):
    one = write(tmp_path / "one.jsonl", [{"text": "x"}])
    other = write(tmp_path / "other.jsonl", [{"text": "x", "label": "a"}])
    with pytest.raises(DataError, match=r"is read as labelled .* as text"):
        load(dataset_name=[one, other])
    rows = load(dataset_name=[one, other], task_type="text_generation")
    assert [row["text"] for row in rows.train] == ["x", "x"]


def test_one_label_and_lists_of_labels_are_not_mixed():
    with pytest.raises(DataError, match="some rows have one label and some a list of them"):
        numbering(texts("a", ["b"]))


def test_rows_with_labels_are_not_streamed(tmp_path):
    name = write(tmp_path / "rows.jsonl", [{"text": "x", "label": label} for label in "ab"])
    with pytest.raises(ConfigError, match="streaming = True: labels get their numbers from all rows"):
        load(dataset_name=name, streaming=True, max_steps=1)


def test_a_mapping_makes_other_columns_text_and_label():
    rows = load(rows=[{"sentence": "x", "mood": m} for m in "ab"], column_mapping={"text": "sentence", "label": "mood"})
    assert (rows.shape, rows.labels.names) == ("labelled", ("a", "b"))


@pytest.mark.parametrize("columns", [("sentence", "label"), ("content", "label"), ("text", "labels")])
def test_usual_names_of_labelled_texts_are_guessed(columns):
    rows = load(rows=[dict(zip(columns, ("x", label), strict=True)) for label in "ab"])
    assert (rows.shape, rows.labels.names, rows.columns.used) == ("labelled", ("a", "b"), columns)


def test_a_text_beside_labels_is_only_a_text_where_that_is_asked_for():
    rows = load(rows=[{"content": "x", "label": label} for label in "ab"], task_type="text_generation")
    assert rows.train[0] == {"text": "x"}


def test_usual_names_of_labels_of_words_are_guessed_with_the_names_that_come_with_them():
    tags = datasets.List(datasets.ClassLabel(names=["O", "B-x"]))
    features = datasets.Features({"tokens": datasets.List(datasets.Value("string")), "ner_tags": tags})
    rows = load(rows=datasets.Dataset.from_list([{"tokens": ["a", "b"], "ner_tags": [1, 0]}], features=features))
    assert (rows.shape, rows.labels.names, rows.train[0]["labels"]) == ("tagged", ("O", "B-x"), [1, 0])


def test_a_mapping_that_the_task_has_no_columns_for_is_refused():
    with pytest.raises(ConfigError, match="no format of text_generation has the columns label and text together"):
        load(
            rows=[{"sentence": "x", "mood": m} for m in "ab"], task_type="text_generation",
            column_mapping={"text": "sentence", "label": "mood"},
        )  # fmt: skip
