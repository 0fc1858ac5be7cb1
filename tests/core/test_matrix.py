"""The support matrix: nothing but what the plugins say."""

from __future__ import annotations

from aligntune_core import AlgorithmSupport, Availability, Support
from aligntune_core.algorithms import ALGORITHMS
from aligntune_core.matrix import NOT_CLAIMED, SupportMatrix
from aligntune_core.values import MODEL_TYPES, TASKS

CHAT, TEXT = "chat_completion", "text_generation"
LIMITED = Support("limited", "slow")


def matrix() -> SupportMatrix:
    ours = AlgorithmSupport(algorithm="sft", cells={(CHAT, "causal_lm"): Support("full"), (CHAT, "seq2seq"): LIMITED})
    theirs = AlgorithmSupport(algorithm="my_algo", cells={(TEXT, "causal_lm"): Support("no", "not yet")})
    verdicts = {"a": Availability(True), "b": Availability(False, "no GPU", "buy one")}
    return SupportMatrix({"b": {"my_algo": theirs}, "a": {"sft": ours}}, verdicts)


def test_a_cell_has_the_shape_of_the_contract() -> None:
    assert matrix().cells[-1] == {
        "backend": "b",
        "algorithm": "my_algo",
        "task": TEXT,
        "model_type": "causal_lm",
        "level": "no",
        "note": "not yet",
        "available": False,
        "reason": "no GPU",
    }


def test_cells_are_sorted_and_complete() -> None:
    cells = [(c["backend"], c["model_type"]) for c in matrix().cells]
    assert cells == [("a", "causal_lm"), ("a", "seq2seq"), ("b", "causal_lm")]


def test_the_best_cell_that_fits_counts() -> None:
    found = matrix()
    assert found.support("a", "sft") == Support("full")
    assert found.support("a", "sft", CHAT, "seq2seq") == LIMITED
    assert found.support("a", "sft", TEXT) == found.support("a", "dpo") == found.support("x", "sft") == NOT_CLAIMED


def test_limited_counts_as_trained_and_no_does_not() -> None:
    found = matrix()
    assert found.trains("sft", CHAT, "seq2seq") == ["a"]
    assert found.trains("my_algo") == []


def test_each_of_the_documents_tables_is_a_projection() -> None:
    found = matrix()
    for axis, names in (("algorithm", [*ALGORITHMS, "my_algo"]), ("task", TASKS), ("model_type", MODEL_TYPES)):
        backends, rows = found.projection(axis)
        assert backends == ["a", "b"]
        assert [name for name, _ in rows] == list(names)
    assert dict(found.projection("model_type")[1])["seq2seq"] == [LIMITED, NOT_CLAIMED]
