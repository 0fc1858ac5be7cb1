"""What this backend trains: what aligntune_trl says of causal models, but for what Unsloth does not do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aligntune_trl.plugin import provides_algorithms

from aligntune_core import AlgorithmSupport, Support

PREFERENCE = 50
TRAINED = ("sft", "dpo", "ppo", "grpo", "dapo", "dr_grpo")
"""Its algorithms; of GRPO's family all but GSPO."""

WITHOUT_KERNELS = "trained as the TRL backend does, without Unsloth's kernels; TRL recommended"
NO_WORDS = "words are labelled by classification models, which Unsloth does not train; TRL recommended"
NO_LABELS = "Unsloth does not train classification models; TRL recommended"

_LIMITED = Support("limited", WITHOUT_KERNELS)
_REFUSED = Support("limited", NO_WORDS)
_NO = Support("no", NO_LABELS)

Cells = Mapping[tuple[str, str], Support]


def _level(task: str, model_type: str, support: Support) -> Support:
    if model_type == "classification":
        return _NO
    return support if uses_unsloth(task, model_type) else _LIMITED


def _cells(algorithm: str, cells: Cells) -> dict[tuple[str, str], Support]:
    found = {(task, kind): _level(task, kind, support) for (task, kind), support in cells.items()}
    return found | ({("token_classification", "causal_lm"): _REFUSED} if algorithm == "sft" else {})


def claims() -> Iterable[AlgorithmSupport]:
    """The same settings as aligntune_trl, for the algorithms that Unsloth trains."""
    return [
        AlgorithmSupport(
            algorithm=support.algorithm,
            cells=_cells(support.algorithm, support.cells),
            preference=PREFERENCE,
            settings=support.settings,
        )
        for support in provides_algorithms()
        if support.algorithm in TRAINED
    ]


def uses_unsloth(task: str, model_type: str) -> bool:
    """Whether a cell is trained with Unsloth's model; the limited ones are not."""
    return model_type == "causal_lm" and task != "text_classification"
