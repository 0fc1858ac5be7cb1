"""What the suite trains on, and for each setting another value than the one that it usually gives.

A new task, or a new kind of rows, is one more entry of `ROWS`; a new setting, one of `OTHER`.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from aligntune_core.config import TrainingConfig

Row = Mapping[str, Any]

_SUMS = [(f"What is {n} plus {n * n}?", f"{n} plus {n * n} is {n + n * n}.") for n in range(12)]
_WORDS = ("river", "cloud", "stone", "lantern", "map", "violin", "bread", "harbour", "moss", "engine", "salt", "letter")
_SPELT = [(f"Spell the word {word}.", "-".join(word)) for word in _WORDS]
PAIRS = [pair for both in zip(_SUMS, _SPELT, strict=True) for pair in both][:22]
"""22 questions and answers of different lengths: in batches of four, six steps an epoch, the last of two rows."""


def _chat(question: str, answer: str, number: int) -> Row:
    """One turn, or in every third row two."""
    turns = [(question, answer)] if number % 3 else [("Hello!", "Hello, ask me."), (question, answer)]
    roles = ("user", "assistant")
    return {"messages": [{"role": r, "content": c} for turn in turns for r, c in zip(roles, turn, strict=True)]}


def _said(role: str, content: str) -> list[Row]:
    return [{"role": role, "content": content}]


def _pair_of_chats(question: str, answer: str, number: int) -> Row:
    asked, wrong = _said("user", question), _said("assistant", f"No idea, {number}.")
    return {"prompt": asked, "chosen": _said("assistant", answer), "rejected": wrong}


def _tagged(question: str) -> Row:
    """Each word with a label of its length."""
    words = question.split()
    return {"tokens": words, "labels": ["short" if len(word) < 4 else "long" for word in words]}


ROWS: dict[tuple[str, str], list[Row]] = {
    ("answers", "instruction_following"): [{"instruction": q, "output": a} for q, a in PAIRS],
    ("answers", "supervised_fine_tuning"): [{"prompt": f"{q}\n", "completion": a} for q, a in PAIRS],
    ("answers", "text_generation"): [{"text": f"{q} {a}"} for q, a in PAIRS],
    ("answers", "chat_completion"): [_chat(q, a, number) for number, (q, a) in enumerate(PAIRS)],
    ("answers", "text_classification"): [{"text": q, "label": q.split()[0]} for q, _ in PAIRS],
    ("answers", "token_classification"): [_tagged(q) for q, _ in PAIRS],
    ("preferences", "instruction_following"): [_pair_of_chats(q, a, n) for n, (q, a) in enumerate(PAIRS)],
    ("preferences", "text_generation"): [
        {"prompt": f"{q} ", "chosen": a, "rejected": f"No idea, {n}."} for n, (q, a) in enumerate(PAIRS)
    ],
    ("preferences", "chat_completion"): [_pair_of_chats(q, a, n) for n, (q, a) in enumerate(PAIRS)],
    ("prompts", "instruction_following"): [{"instruction": q, "answer": a} for q, a in PAIRS],
    ("prompts", "text_generation"): [{"prompt": f"{q}\n", "answer": a} for q, a in PAIRS],
    ("prompts", "chat_completion"): [{"prompt": _said("user", q), "answer": a} for q, a in PAIRS],
}
"""(what an algorithm learns from, task) → rows."""


def rows_for(kind: str, task: str) -> list[Row]:
    """The rows for a task of an algorithm that learns from answers, preferences or prompts; empty: there are none."""
    return ROWS.get((kind, task), [])


def question_of(row: Row) -> Any:
    """What a row asks, in the form that `predict` takes: text, or the messages before the last answer."""
    if "messages" in row:
        return row["messages"][:-1]
    if "label" in row or "labels" in row:
        return row.get("text", row.get("tokens"))
    if "text" in row:
        return " ".join(row["text"].split()[:4])
    return row.get("instruction", row.get("prompt"))


def scored(row: Row) -> Any:
    """The prompt of a preference with its chosen answer: what a reward model scores."""
    return row["prompt"] + row["chosen"]


USUAL: Mapping[str, Mapping[str, Any]] = {
    "answers": {},
    "preferences": {},
    "prompts": {
        "reward_functions": "aligntune_core.testing.suite.rewards:vowels",
        "batch_size": 32,
        "num_generations": 16,
        "max_completion_length": 8,
        "num_iterations": 1,
        "mask_truncated_completions": False,  # an untrained model never ends an answer
        "overlong_cache": 0,
        "dynamic_sampling_attempts": 1,
        "critic": "head",
        "lam": 1.0,  # with a shorter memory the untrained critic would decide the first steps
        "kl_coef": 0.01,
    },
}
"""What the suite trains with beside what it always does, by what an algorithm learns from."""


@dataclass(frozen=True, slots=True)
class Other:
    """Another value of a setting.

    Attributes:
        value: what is given.
        given: what has to be given with it, before and after.
        without: settings that must not be given with it.
    """

    value: Any
    given: Mapping[str, Any] = field(default_factory=dict)
    without: Sequence[str] = ()


_LORA = {"use_peft": True}
OTHER: dict[str, Other] = {
    "attn_implementation": Other("eager"),
    "chat_template": Other("{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}\n{% endfor %}"),
    "precision": Other("bf16"),
    "max_seq_length": Other(48),
    "packing": Other(True),
    "assistant_only_loss": Other(False),
    "seed": Other(8),
    "num_epochs": Other(2.0, without=("max_steps",)),
    "max_steps": Other(3),
    "batch_size": Other(16),
    "eval_batch_size": Other(3),
    "gradient_accumulation_steps": Other(2),
    "learning_rate": Other(2e-3),
    "lr_scheduler": Other("linear"),
    "warmup_steps": Other(2.0),
    "weight_decay": Other(0.1),
    "optimizer": Other("sgd"),
    "max_grad_norm": Other(0.5),
    "gradient_checkpointing": Other(True),
    "use_peft": Other(True),
    "lora_r": Other(4, _LORA),
    "lora_alpha": Other(8.0, _LORA),
    "lora_dropout": Other(0.25, _LORA),
    "load_in_4bit": Other(True, _LORA),
    "load_in_8bit": Other(True, _LORA),
    "logging_steps": Other(3),
    "save_steps": Other(4),
    "eval_steps": Other(5),
    "beta": Other(0.2),
    "loss_type": Other("ipo"),
    "reward_functions": Other("aligntune_core.testing.suite.rewards:digits"),
    "reward_weights": Other([2.0]),
    "reward_timeout": Other(60.0),
    "overlong_cache": Other(4),
    "num_generations": Other(8),
    "num_iterations": Other(3),
    "steps_per_generation": Other(2),
    "max_completion_length": Other(6),
    "temperature": Other(0.7),
    "top_p": Other(0.9),
    "epsilon": Other(0.1),
    "epsilon_high": Other(0.3),
    "scale_rewards": Other("batch", {"dynamic_sampling_attempts": 0}),
    "mask_truncated_completions": Other(True),
    "dynamic_sampling_attempts": Other(3),
    "gamma": Other(0.9),
    "lam": Other(0.8),
    "kl_coef": Other(0.2),
    "vf_coef": Other(0.5),
    "cliprange_value": Other(0.4),
    "critic": Other("model"),
    "critic_learning_rate": Other(5e-3),
    "whiten": Other(False),
    "missing_eos_penalty": Other(0.5),
}
"""Another valid value of each setting that core knows."""

YOURS = {
    "lora_target_modules": Other("which layers there are, only the model tells", _LORA),
    "backend_options": Other("which options there are, only your library tells"),
}
"""Settings of core whose valid values only the plugin's author knows; in the place of the value, why."""

ELSEWHERE = {
    "model_name": "every training names its model, and a saved one must evaluate otherwise than the untrained one",
    "resume": "an interrupted run is resumed",
}
"""Settings that other checks of the suite prove."""

IN_THE_ROWS = {
    "assistant_only_loss": "which tokens are trained is a matter of the rows; a library may get it ready-made",
}
"""Settings that may show in the rows' preview instead of `resolved`."""

UNSEEN = {
    "streaming": "it reads files or the hub, and the suite passes rows in memory",
    "revision": "a model in a local folder has no revisions, and the suite asks no hub",
    "reward_model_name": "it would need a reward model that the backend can load, and the suite has none",
    "trust_remote_code": "it would need a model that brings its own code, and the suite runs none",
}
"""Settings that cannot be proved offline, with the reason."""

AS_THE_MACHINE_CAN = {
    "attn_implementation": "the model or the device may lack that kernel",
    "precision": "the device may lack that precision",
    "packing": "it needs an attention kernel that keeps rows apart",
    "load_in_4bit": "it needs a library and a device that can",
    "load_in_8bit": "it needs a library and a device that can",
}
"""Settings that a backend may claim and yet refuse on this machine, in an error that names the setting."""


def _bounds(metadata: Sequence[Any]) -> Iterator[float]:
    """The numbers that limit a field: values at or next to them are often valid."""
    for limit in metadata:
        for name in ("ge", "gt", "le", "lt"):
            if isinstance(bound := getattr(limit, name, None), int | float):
                yield bound
        yield from _bounds(getattr(limit, "metadata", ()))


def _candidates(kind: Any, default: Any, metadata: Sequence[Any]) -> Iterator[Any]:
    """Values that may be valid for a field of this type, the likeliest first."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        yield from _candidates(parts[0], default, [*metadata, *parts[1:]])
    elif origin in (typing.Union, types.UnionType):
        for part in parts:
            yield from _candidates(part, default, metadata)
    elif origin is typing.Literal:
        yield from parts
    elif kind is bool:
        yield from (not default, True)
    elif kind in (int, float):
        start = default if isinstance(default, int | float) else 1
        bounds = list(_bounds(metadata))
        middle = [sum(bounds) / len(bounds)] if bounds else []
        yield from (kind(n) for n in (start * 2, start / 2, start + 1, *middle, *bounds))


def another_value(config: type[TrainingConfig], name: str) -> Any:
    """A valid value of a plugin's own setting that is not its default; None where only its author knows one."""
    info = config.model_fields[name]
    default = info.get_default()
    for candidate in _candidates(info.annotation, default, info.metadata):
        try:
            validated = getattr(config.model_validate({name: candidate}), name)
        except ValidationError:
            continue
        if validated != default:
            return candidate
    return None
