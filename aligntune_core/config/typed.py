"""The settings as typed keywords, so that editors complete them. Made by docs/generate.py; changes here are lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict


class SftSettings(TypedDict, total=False):
    """The settings of SFT."""

    model_name: str | None
    """A local folder or a hub name; required, unless an open model is passed."""

    revision: str | None
    """The hub revision: a branch, tag or commit."""

    attn_implementation: str | None
    """The attention kernel: sdpa, eager, flash_attention_2; unset: the library's."""

    trust_remote_code: bool | None
    """Run Python code that comes with the model. Off unless you ask for it."""

    chat_template: str | None
    """A Jinja template, or the path of a .jinja file, for a tokenizer without one."""

    precision: str | None
    """Precision of the computation; auto: bf16 where the GPU can, else fp16 on a GPU, fp32 on CPU."""

    task_type: str | None
    """The task; unset: inferred from the rows."""

    model_type: str | None
    """The kind of model; unset: read from the checkpoint."""

    dataset_name: str | None
    """A JSONL, JSON, CSV or Parquet file, a folder of them, or a hub name; required, unless rows are passed."""

    split: str | None
    """The split, such as train or train[:1000]; unset: train."""

    eval_dataset_name: str | None
    """A second data set to evaluate on."""

    eval_fraction: float | None
    """Share of the rows that is held back for evaluation, drawn with the seed."""

    max_samples: int | None
    """Use the first so many rows."""

    column_mapping: Mapping[str, str] | None
    """Names of your columns: ours=theirs, such as prompt=question."""

    system_prompt: str | None
    """A system message before each conversation that has none."""

    max_seq_length: int | None
    """Longest row, in tokens; longer ones are cut at the end."""

    packing: bool | None
    """Put several short rows into one sequence; refused where rows could see each other."""

    assistant_only_loss: bool | None
    """Train the answers only; unset: yes where a row has a question and an answer."""

    seed: int | None
    """Seed of initialisation, order and splits."""

    num_epochs: float | None
    """Passes over the data."""

    max_steps: int | None
    """Optimiser steps, instead of epochs."""

    batch_size: int | None
    """Rows per device and forward pass."""

    eval_batch_size: int | None
    """Rows per device in evaluation; unset: batch_size."""

    gradient_accumulation_steps: int | None
    """Forward passes per optimiser step."""

    learning_rate: float | None
    """Peak learning rate; unset: the algorithm's, higher with LoRA."""

    lr_scheduler: str | None
    """How the learning rate falls."""

    warmup_steps: float | None
    """Steps of linear warm-up; below 1: a share of all steps."""

    weight_decay: float | None
    """Decoupled weight decay."""

    optimizer: str | None
    """The optimizer."""

    max_grad_norm: float | None
    """Gradients are clipped to this norm; 0: never."""

    gradient_checkpointing: bool | None
    """Recompute activations to save memory; unset: on for models above 1 B parameters on a GPU."""

    use_peft: bool | None
    """Train a LoRA adapter; unset: yes for a quantised model, else no."""

    lora_r: int | None
    """Rank."""

    lora_alpha: float | None
    """Scale; the update is multiplied by lora_alpha / lora_r."""

    lora_dropout: float | None
    """Dropout on the adapter's input."""

    lora_target_modules: str | Sequence[str] | None
    """Layers that get an adapter."""

    load_in_4bit: bool | None
    """Load the base in 4 bit (NF4) and train an adapter: QLoRA."""

    load_in_8bit: bool | None
    """Load the base in 8 bit and train an adapter."""

    output_dir: str | None
    """The run folder; unset: a new one under runs/."""

    overwrite: bool | None
    """Replace the run that is in output_dir."""

    resume: bool | str | None
    """true: go on from the newest good checkpoint; auto: or else start; or the path of a run or checkpoint."""

    logging_steps: int | None
    """Steps between two rows of metrics."""

    save_steps: int | None
    """Steps between two checkpoints; one more is written at the end."""

    eval_steps: int | None
    """Steps between two evaluations; unset: after each epoch."""

    save_total_limit: int | None
    """Checkpoints that are kept."""

    report_to: str | Sequence[str] | None
    """Trackers to report to, plugins among them; none: no tracker, nothing leaves the machine."""

    isolation: str | None
    """Which process trains; auto: the backend decides; none: this one."""

    backend_options: Mapping[str, Any] | None
    """Anything else, passed to the backend's own config and checked there."""
