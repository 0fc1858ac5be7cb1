"""What predictions are worth: scikit-learn's and nervaluate's numbers, on labels by their numbers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aligntune_core import BackendUnavailableError, Labels
from aligntune_core.errors import one_line

log = logging.getLogger("aligntune")

Numbers = NDArray[Any]
UNREAD = -1
"""What is said of a word that is not read: no label."""
_BIO = {"B": "B", "I": "I", "E": "I", "L": "I", "S": "B", "U": "B"}
"""Marks of BIO, BIOES and BILOU → of BIO: a word that ends a span is within it, one by itself begins it."""
NEEDED = {"sklearn": "scikit-learn", "nervaluate": "nervaluate", "sacrebleu": "sacrebleu"}


def check_installed(*modules: str) -> None:
    """Refuse an evaluation for which a library is missing.

    Raises:
        BackendUnavailableError: names it.
    """
    from importlib.util import find_spec

    for module in modules:
        if find_spec(module) is None:
            remedy = "pip install 'aligntune[metrics]'"
            problem = f"evaluating this task needs {NEEDED[module]}"
            raise BackendUnavailableError(problem, remedy, field="eval_dataset_name")


def of_texts(labels: Labels, logits: Numbers, truth: Numbers) -> dict[str, float]:
    """One label: accuracy, macro-F1. Several: exact matches, micro- and macro-F1. Regression: errors and R²."""
    from sklearn import metrics

    if labels.problem == "regression":
        guess, value = logits.reshape(-1).astype(np.float64), truth.reshape(-1).astype(np.float64)
        return {
            "mean_squared_error": float(metrics.mean_squared_error(value, guess)),
            "mean_absolute_error": float(metrics.mean_absolute_error(value, guess)),
            "r2": float(metrics.r2_score(value, guess)) if len(value) > 1 else float("nan"),
        }
    if labels.problem == "multi":
        held, real = logits > 0, truth > 0.5  # a logit above 0 is a probability above one half
        return {
            "accuracy": float(metrics.accuracy_score(real, held)),
            "f1_micro": float(metrics.f1_score(real, held, average="micro", zero_division=0)),
            "f1_macro": float(metrics.f1_score(real, held, average="macro", zero_division=0)),
        }
    guessed = logits.argmax(axis=-1)
    return {
        "accuracy": float(metrics.accuracy_score(truth, guessed)),
        "f1_macro": float(metrics.f1_score(truth, guessed, average="macro", zero_division=0)),
    }


def _bio(name: str) -> str | None:
    """A label of BIO, BIOES or BILOU as one of BIO; None: it is none."""
    mark, _, kind = name.partition("-")
    return name if name == "O" else f"{_BIO[mark]}-{kind}" if kind and mark in _BIO else None


def spans_in(names: Sequence[str]) -> list[str]:
    """Labels as those of BIO; none where they are no spans, or not all of them can be read so."""
    found = [name for name in map(_bio, names) if name]
    return found if len(found) == len(names) and any(name.startswith("B-") for name in found) else []


def tell_no_spans(names: Sequence[str]) -> None:
    """Say it where labels seem to be spans, and cannot be measured as such."""
    other = next((name for name in names if _bio(name) is None), None)
    if other is not None and any(name.startswith("B-") for name in names):
        log.warning("spans are not measured: the label '%s' is none of BIO, BIOES or BILOU", one_line(other, 60))


def of_words(labels: Labels, guessed: Sequence[Sequence[int]], truth: Sequence[Sequence[int]]) -> dict[str, float]:
    """Accuracy and macro-F1 over words; where labels are spans, their strict precision, recall and F1 too.

    A word that is not read, of which is said `UNREAD`, is wrong.
    """
    from sklearn import metrics

    flat_truth = [label for row in truth for label in row]
    flat_guess = [label for row in guessed for label in row]
    there = sorted({*flat_truth, *flat_guess} - {UNREAD})
    found = {
        "accuracy": float(metrics.accuracy_score(flat_truth, flat_guess)),
        "f1_macro": float(metrics.f1_score(flat_truth, flat_guess, labels=there, average="macro", zero_division=0)),
    }
    if not (spans := spans_in(labels.names)):
        return found
    from nervaluate import Evaluator

    said = [*spans, "O"]  # UNREAD is the last
    named = [[[said[label] for label in row] for row in rows] for rows in (truth, guessed)]
    kinds = sorted({name[2:] for name in spans if name != "O"})
    strict = Evaluator(*named, tags=kinds, loader="list").evaluate()["overall"]["strict"]
    return found | {"span_precision": strict.precision, "span_recall": strict.recall, "span_f1": strict.f1}


def of_answers(said: Sequence[str], wanted: Sequence[str]) -> dict[str, float]:
    """The share of answers that are exactly the wanted ones, and BLEU and chrF of all of them (0 to 100)."""
    import sacrebleu

    references = [list(wanted)]
    return {
        "exact_match": sum(one == other for one, other in zip(said, wanted, strict=True)) / max(len(wanted), 1),
        "bleu": sacrebleu.corpus_bleu(list(said), references).score,
        "chrf": sacrebleu.corpus_chrf(list(said), references).score,
    }
