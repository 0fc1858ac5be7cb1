"""The algorithms that core knows by name, and the one rule by which a name is looked up."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from aligntune_core.errors import LONGEST_NAME, Problem, UnknownAlgorithmError


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """A published way to train.

    Attributes:
        name: canonical.
        title: as people write it.
        summary: one sentence.
        paper: its source.
        formula: the loss that is minimised, in plain characters.
        difference: in what it differs from GRPO, one sentence.
    """

    name: str
    title: str
    summary: str
    paper: str
    formula: str = ""
    difference: str = ""


_RATIO = "r_t = π(y_t | x, y_<t) / π_old(y_t | x, y_<t)"
_GROUP = "A_i = (R_i - mean R) / std R over the G answers to a prompt"


ALGORITHMS: dict[str, Algorithm] = {
    a.name: a
    for a in (
        Algorithm(
            name="sft",
            title="SFT",
            summary="Supervised fine-tuning: maximise the likelihood of the answer tokens.",
            paper="Ouyang et al. 2022, arXiv:2203.02155, section 3.5",
            formula="L = -(1/N) Σ log p(y_t | x, y_<t), over the N trained tokens of the whole batch",
        ),
        Algorithm(
            name="dpo",
            title="DPO",
            summary="Direct preference optimisation from pairs of a chosen and a rejected answer.",
            paper="Rafailov et al. 2023, arXiv:2305.18290",
            formula="""\
L = -log σ(β (log π(y_w|x)/π_ref(y_w|x) - log π(y_l|x)/π_ref(y_l|x)))
with y_w the chosen and y_l the rejected answer""",
            difference="Learns from given pairs: nothing is generated, and there is no reward.",
        ),
        Algorithm(
            name="ppo",
            title="PPO",
            summary="Proximal policy optimisation with a learned critic.",
            paper="Schulman et al. 2017, arXiv:1707.06347",
            formula="""\
L = -(1/N) Σ_t min(r_t A_t, clip(r_t, 1 - ε, 1 + ε) A_t), over the N tokens of the mini-batch
"""
            f"with {_RATIO}"
            """
A_t = Σ_l (γλ)^l δ_(t+l), δ_t = R_t + γ V(s_(t+1)) - V(s_t)
R_t = -kl_coef (log π_old - log π_ref), and the score is added at the last token
L_V = ½ max((V - G)², (clip(V, V_old ± cliprange_value) - G)²), with G = A + V_old""",
            difference="A learned critic gives each token its own advantage; the KL divergence is part of the reward.",
        ),
        Algorithm(
            name="grpo",
            title="GRPO",
            summary="Group-relative policy optimisation: advantages from groups of answers, no critic.",
            paper="Shao et al. 2024, arXiv:2402.03300",
            formula="""\
L = -(1/G) Σ_i (1/|y_i|) Σ_t [min(r_t A_i, clip(r_t, 1 - ε, 1 + ε) A_i) - β KL_t]
"""
            f"with {_RATIO}, {_GROUP}"
            """
KL_t = π_ref/π - log(π_ref/π) - 1""",
        ),
        Algorithm(
            name="gspo",
            title="GSPO",
            summary="Group sequence policy optimisation: the ratio is taken over the whole answer.",
            paper="Zheng et al. 2025, arXiv:2507.18071",
            formula="""\
L = -(1/G) Σ_i min(s_i A_i, clip(s_i, 1 - ε, 1 + ε_high) A_i)
with s_i = (π(y_i|x) / π_old(y_i|x))^(1/|y_i|)
"""
            f"{_GROUP}",
            difference="One ratio for a whole answer, clipped far closer to 1; no KL; several mini-batches a rollout.",
        ),
        Algorithm(
            name="dapo",
            title="DAPO",
            summary="Decoupled clipping and dynamic sampling with a token-level loss.",
            paper="Yu et al. 2025, arXiv:2503.14476",
            formula="""\
L = -(1/N) Σ_i Σ_t min(r_t A_i, clip(r_t, 1 - ε, 1 + ε_high) A_i), over the N tokens of the batch
"""
            f"with {_RATIO}, {_GROUP}"
            """
R_i has the soft overlong punishment; groups whose rewards are all equal are sampled anew from other prompts""",
            difference="Token-level loss, clip-higher, no KL, overlong answers masked and punished, dynamic sampling.",
        ),
        Algorithm(
            name="dr_grpo",
            title="Dr. GRPO",
            summary="GRPO without its length and standard-deviation biases.",
            paper="Liu et al. 2025, arXiv:2503.20783",
            formula="""\
L = -(1/(G·T)) Σ_i Σ_t min(r_t A_i, clip(r_t, 1 - ε, 1 + ε) A_i), T = max_completion_length
"""
            f"with {_RATIO}"
            """
A_i = R_i - mean R over the G answers to a prompt""",
            difference="Advantages are not divided by the deviation, the loss not by each answer's length; no KL.",
        ),
        Algorithm(
            name="reward",
            title="Reward model",
            summary="A model that scores answers, trained from preference pairs.",
            paper="Bradley and Terry 1952; Ouyang et al. 2022, arXiv:2203.02155, section 3.5",
            formula="L = -log σ(r(x, y_w) - r(x, y_l)), with y_w the chosen and y_l the rejected answer",
        ),
    )
}

LONGEST_LIST, LONGEST_REMEDY = 100, 160


def fold(name: object) -> str:
    """What names are compared by: compatibility-normalised, lower case, without spaces, dots, `-` and `_`."""
    if not isinstance(name, str):
        return ""
    text = unicodedata.normalize("NFKC", name[: LONGEST_NAME + 1]).casefold()
    return re.sub(r"[\s._-]", "", text)


def nearest(name: object, choices: Iterable[str]) -> str | None:
    """The choice that is spelt most like `name`, or None; one that begins with it comes first, in the given order."""
    import difflib  # only a wrong name needs it

    ordered = choices if isinstance(choices, Sequence) else sorted(choices)
    by_fold = {fold(choice): choice for choice in ordered}
    folded = fold(name)
    longer = [choice for choice in by_fold if len(folded) > 2 and choice.startswith(folded)]
    found = longer[:1] or difflib.get_close_matches(folded, by_fold, n=1, cutoff=0.6)
    return by_fold[found[0]] if found else None


def lookup(name: object, choices: Iterable[str]) -> str | None:
    """The choice that `name` means, or None: `dr-grpo`, `Dr. GRPO` and `drgrpo` all mean `dr_grpo`."""
    listed, folded = list(choices), fold(name)
    if isinstance(name, str) and name in listed:
        return str(name)
    return next((c for c in listed if fold(c) == folded), None) if folded else None


def did_you_mean(name: object, choices: Collection[str], kind: str) -> str:
    """The remedy for a name that nobody has: the nearest choice, and all of them where they fit in a line."""
    guess = nearest(name, choices)
    everything = f"{kind}: {', '.join(sorted(choices)) or 'none'}"
    if guess is None:
        cut = everything[:LONGEST_REMEDY].rpartition(",")[0] + ", …"
        return everything if len(everything) <= LONGEST_REMEDY else cut
    return f"did you mean '{guess}'?" + (f" {everything}" if len(everything) <= LONGEST_LIST else "")


def canonical(name: object, extra: Iterable[str] = ()) -> str:
    """The algorithm's one name.

    Args:
        name: any spelling, of any type.
        extra: names that installed plugins bring.

    Raises:
        UnknownAlgorithmError: nothing is called so; the remedy has the nearest name and all choices.
    """
    choices = {*ALGORITHMS, *extra}
    found = lookup(name, ALGORITHMS) or lookup(name, sorted(choices))
    if found is None:
        remedy = did_you_mean(name, choices, "the algorithms are")
        raise UnknownAlgorithmError([Problem.of("algorithm", "no algorithm has this name", remedy, value=name)])
    return found
