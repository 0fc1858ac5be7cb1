"""The settings: one frozen pydantic class a group, and `TrainingConfig`, which every algorithm's class extends.

A default that depends on the algorithm stands in that algorithm's class; every default names its source.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from aligntune_core.algorithms import did_you_mean, lookup
from aligntune_core.config.fields import (
    DataNames,
    Float,
    Mapped,
    Names,
    NonNegative,
    OptionalSteps,
    Options,
    PathText,
    PositiveFloat,
    PositiveInt,
    PositiveWeights,
    Seed,
    Share,
    Text,
    problem,
)
from aligntune_core.config.names import OPTIMIZERS, SCHEDULERS, TRACKERS
from aligntune_core.discovery import PLUGINS, names
from aligntune_core.errors import ConfigError, Problem
from aligntune_core.values import MODEL_TYPES, TASKS

REQUIRED = {
    "model_name": "give a local folder or a hub name",
    "dataset_name": "give a file, a folder or a hub name",
    "reward_functions": "give a reward's name, FILE.py:name, module:function or a function; or a reward_model_name",
}
"""The settings that have no default, and what they want."""

CORE_SETTINGS = frozenset(
    {
        *(
            "dataset_name",
            "dataset_weights",
            "split",
            "eval_dataset_name",
            "eval_fraction",
            "max_samples",
            "column_mapping",
        ),
        *("system_prompt", "task_type", "model_type", "output_dir", "overwrite", "save_total_limit", "isolation"),
        "report_to",
    }
)
"""What core honours itself, whichever backend trains; of `report_to`, the trackers that are plugins."""

HF = "transformers' TrainingArguments"
OURS = "ours"


def setting(default: Any, text: str, source: str = OURS) -> Any:
    """A field with its one-sentence meaning and the source of its default."""
    return Field(default=default, description=text, json_schema_extra={"source": source})


def choice(*choices: str, kind: str) -> BeforeValidator:
    """One of the choices, in any spelling."""

    def check(value: object) -> object:
        if value is None:
            return None
        found = lookup(value, choices)
        if found is None:
            raise problem("is none of the choices", did_you_mean(value, choices, kind))
        return found

    return BeforeValidator(check)


def choices_of(*choices: str, kind: str) -> AfterValidator:
    """Each of several names is one of the choices, in any spelling."""

    def check(values: tuple[str, ...]) -> tuple[str, ...]:
        found = []
        for value in values:
            if (name := lookup(value, choices)) is None:
                raise problem(f"'{value[:40]}' is none of the choices", did_you_mean(value, choices, kind))
            found.append(name)
        return tuple(found)

    return AfterValidator(check)


def _trackers(value: object) -> object:
    given = value if isinstance(value, list | tuple) else str(value).split(",")
    wanted = {str(name).strip() for name in given if str(name).strip().lower() not in ("none", "")}
    if unknown := sorted(wanted - set(TRACKERS)):
        choices = (*TRACKERS, *names(PLUGINS))  # the installed plugins are looked up only where one may be meant
        for name in unknown:
            if name not in choices:
                remedy = did_you_mean(name, choices, "the trackers are")
                raise problem(f"'{name[:40]}' is none of the choices", remedy)
    return value


def resume_value(value: Any) -> Any:
    """`resume` as it is meant: True, "auto", a path, or None; the words true, yes, no and none too."""
    words = {"true": True, "yes": True, "false": None, "no": None, "none": None, "auto": "auto"}
    if value is False:
        return None
    return words.get(value.lower(), value) if isinstance(value, str) else value


def _targets(value: object) -> object:
    if isinstance(value, str):
        return value if value == "all-linear" else tuple(p.strip() for p in value.split(",") if p.strip())
    return tuple(value) if isinstance(value, list) else value


class Group(BaseModel):
    """Settings are frozen, and an unknown one is an error."""

    # The groups are never validated alone: building their schemas would cost as much as all the other imports.
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), defer_build=True)
    title: ClassVar[str] = ""


class ModelSettings(Group):
    title = "Model"

    model_name: PathText | None = setting(
        None, "A local folder or a hub name; required, unless an open model is passed."
    )
    revision: Text | None = setting(None, "The hub revision: a branch, tag or commit.")
    attn_implementation: Text | None = setting(
        None, "The attention kernel: sdpa, eager, flash_attention_2; unset: the library's."
    )
    trust_remote_code: bool = setting(
        False, "Run Python code that comes with the model. Off unless you ask for it.", OURS
    )
    chat_template: Text | None = setting(
        None, "A Jinja template, the path of a .jinja file, or a name: plain, chatml; unset: the tokenizer's own."
    )
    precision: Annotated[
        Literal["auto", "bf16", "fp16", "fp32"], choice("auto", "bf16", "fp16", "fp32", kind="the choices are")
    ] = setting("auto", "Precision of the computation; auto: bf16 where the GPU can, else fp16 on a GPU, fp32 on CPU.")
    task_type: Annotated[str, choice(*TASKS, kind="the tasks are")] | None = setting(
        None, "The task; unset: inferred from the rows."
    )
    model_type: Annotated[str, choice(*MODEL_TYPES, kind="the model types are")] | None = setting(
        None, "The kind of model; unset: read from the checkpoint."
    )


class DataSettings(Group):
    title = "Data"

    dataset_name: DataNames | None = setting(
        None, "Files (JSONL, JSON, CSV, Parquet), a folder, a hub name, or several; required, unless rows are passed."
    )
    dataset_weights: PositiveWeights = setting(
        (), "How often each of several data sets is drawn from, until one is used up; unset: one after the other."
    )
    split: Text | None = setting(None, "The split, such as train or train[:1000]; unset: train.", "datasets")
    eval_dataset_name: PathText | None = setting(None, "A second data set to evaluate on.")
    eval_fraction: Share | None = setting(
        None, "Share of the rows that is held back for evaluation, drawn with the seed."
    )
    max_samples: PositiveInt | None = setting(None, "Use the first so many rows.")
    column_mapping: Mapped = setting({}, "Names of your columns: ours=theirs, such as prompt=question.")
    system_prompt: Text | None = setting(None, "A system message before each conversation that has none.")


class TrainingSettings(Group):
    title = "Training"

    seed: Seed = setting(42, "Seed of initialisation, order and splits.", HF)
    num_epochs: PositiveFloat = setting(3.0, "Passes over the data.", HF)
    max_steps: OptionalSteps = setting(None, "Optimiser steps, instead of epochs.")
    batch_size: PositiveInt = setting(4, "Rows per device and forward pass.")
    eval_batch_size: PositiveInt | None = setting(None, "Rows per device in evaluation; unset: batch_size.")
    gradient_accumulation_steps: PositiveInt = setting(4, "Forward passes per optimiser step.")
    learning_rate: Annotated[PositiveFloat, Field(le=1.0)] | None = setting(
        None, "Peak learning rate; unset: the algorithm's, higher with LoRA.", "the algorithm's table"
    )
    lr_scheduler: Annotated[str, choice(*SCHEDULERS, kind="the schedules are")] = setting(
        "cosine", "How the learning rate falls.", "Loshchilov and Hutter 2016, arXiv:1608.03983"
    )
    warmup_steps: NonNegative = setting(
        0.03, "Steps of linear warm-up; below 1: a share of all steps.", "Stanford Alpaca"
    )
    weight_decay: NonNegative = setting(0.0, "Decoupled weight decay.", HF)
    optimizer: Annotated[str, choice(*OPTIMIZERS, kind="the optimizers are")] = setting(
        "adamw_torch_fused", "The optimizer.", "Loshchilov and Hutter 2017, arXiv:1711.05101; fused as in TRL"
    )
    max_grad_norm: NonNegative = setting(1.0, "Gradients are clipped to this norm; 0: never.", HF)
    gradient_checkpointing: bool | None = setting(
        None, "Recompute activations to save memory; unset: on for models above 1 B parameters on a GPU."
    )


class AdapterSettings(Group):
    title = "Adapters"

    use_peft: bool | None = setting(
        None, "Train a LoRA adapter; unset: yes for a quantised model, else no.", "Hu et al. 2021, arXiv:2106.09685"
    )
    lora_r: PositiveInt = setting(16, "Rank.", "TRL's ModelConfig")
    lora_alpha: PositiveFloat = setting(
        32.0, "Scale; the update is multiplied by lora_alpha / lora_r.", "TRL's ModelConfig"
    )
    lora_dropout: Annotated[Float, Field(ge=0, lt=1)] = setting(0.0, "Dropout on the adapter's input.")
    lora_target_modules: Annotated[Literal["all-linear"] | Names, BeforeValidator(_targets)] = setting(
        "all-linear", "Layers that get an adapter.", "Dettmers et al. 2023, arXiv:2305.14314, section 4"
    )
    load_in_4bit: bool = setting(False, "Load the base in 4 bit (NF4) and train an adapter: QLoRA.", "arXiv:2305.14314")
    load_in_8bit: bool = setting(False, "Load the base in 8 bit and train an adapter.", "arXiv:2208.07339")


class RunSettings(Group):
    title = "Run"

    output_dir: PathText | None = setting(None, "The run folder; unset: a new one under runs/.")
    overwrite: bool = setting(False, "Replace the run that is in output_dir.")
    resume: Annotated[Literal[True, "auto"] | PathText | None, BeforeValidator(resume_value)] = setting(
        None, "true: go on from the newest good checkpoint; auto: or else start; or the path of a run or checkpoint."
    )
    logging_steps: PositiveInt = setting(10, "Steps between two rows of metrics.", "TRL")
    save_steps: PositiveInt = setting(500, "Steps between two checkpoints; one more is written at the end.", HF)
    eval_steps: OptionalSteps = setting(None, "Steps between two evaluations; unset: after each epoch.")
    save_total_limit: PositiveInt = setting(2, "Checkpoints that are kept.")
    report_to: Annotated[Names, BeforeValidator(_trackers)] = setting(
        (), "Trackers to report to, plugins among them; none: no tracker, nothing leaves the machine.", HF
    )
    isolation: Annotated[
        Literal["auto", "process", "none"], choice("auto", "process", "none", kind="the choices are")
    ] = setting("auto", "Which process trains; auto: the backend decides; process: one of its own; none: this one.")
    backend_options: Options = setting({}, "Anything else, passed to the backend's own config and checked there.")


class TrainingConfig(RunSettings, AdapterSettings, TrainingSettings, DataSettings, ModelSettings):
    """What every algorithm shares. A subclass adds its own settings and defaults.

    Attributes:
        algorithm: its canonical name.
        learning_rates: the default for full fine-tuning and with LoRA, and their source.
        rows: what a row holds: an answer to learn, a preference between two, or a prompt to answer.
        pinned: what the algorithm fixes and is no setting, by its name in the papers and in TRL.
    """

    algorithm: ClassVar[str] = ""
    rows: ClassVar[Literal["answers", "preferences", "prompts"]] = "answers"
    pinned: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    learning_rates: ClassVar[tuple[float, float, str]] = (2e-5, 2e-4, "")

    def coupled(self) -> list[Problem]:
        """Settings that are each fine, but not together; an algorithm's class adds its own."""
        return []

    @property
    def dataset_names(self) -> tuple[str, ...]:
        """The data sets, one or several."""
        names = self.dataset_name
        return () if names is None else (names,) if isinstance(names, str) else names

    @property
    def library_trackers(self) -> list[str]:
        """The trackers of `report_to` that the backend's library reports to."""
        return [name for name in self.report_to if name in TRACKERS]

    @property
    def plugin_trackers(self) -> list[str]:
        """The trackers of `report_to` that are plugins; core serves them, whichever backend trains."""
        return [name for name in self.report_to if name not in TRACKERS]

    @property
    def given(self) -> dict[str, Any]:
        """What the user set, by canonical name, as JSON values."""
        dumped = self.model_dump(mode="json", include=set(self.model_fields_set))
        return {name: value for name, value in dumped.items() if value is not None}

    def settled(self, *, quantised: bool, adapter: bool = False) -> Self:
        """With `use_peft` and `learning_rate` decided, now that it is known what the checkpoint is.

        Args:
            quantised: its weights are, so they cannot be trained.
            adapter: it is an adapter, which is trained on.

        Raises:
            ConfigError: `use_peft` is false, and one of the two holds.
        """
        use_peft = self.use_peft
        if (quantised or adapter) and use_peft is False:
            what = "quantised" if quantised else "an adapter"
            problem = f"the checkpoint is {what}, and only an adapter of it can be trained"
            raise ConfigError(problem, "set use_peft: true or leave it out", field="use_peft", value=False)
        if use_peft is None:
            use_peft = quantised or adapter or self.load_in_4bit or self.load_in_8bit
        rate = self.learning_rate or self.learning_rates[1 if use_peft else 0]
        return self.decided(use_peft=use_peft, learning_rate=rate)

    def decided(self, **values: Any) -> Self:
        """A copy with values that we decided; what the user set is still only what the user set."""
        copy = self.model_copy(update=values)
        copy.__pydantic_fields_set__.clear()
        copy.__pydantic_fields_set__.update(self.model_fields_set)
        return copy
