"""The settings as typed keywords, so that editors complete them. Made by docs/generate.py; changes here are lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict


class TrainingSettings(TypedDict, total=False):
    """The settings of every algorithm."""

    model_name: str | None
    """A local folder or a hub name; required, unless an open model is passed."""

    revision: str | None
    """The hub revision: a branch, tag or commit."""

    attn_implementation: str | None
    """The attention kernel: sdpa, eager, flash_attention_2; unset: the library's."""

    trust_remote_code: bool | None
    """Run Python code that comes with the model. Off unless you ask for it."""

    chat_template: str | None
    """A Jinja template, the path of a .jinja file, or a name: plain, chatml; unset: the tokenizer's own."""

    precision: str | None
    """Precision of the computation; auto: bf16 where the GPU can, else fp16 on a GPU, fp32 on CPU."""

    task_type: str | None
    """The task; unset: inferred from the rows."""

    model_type: str | None
    """The kind of model; unset: read from the checkpoint."""

    dataset_name: str | Sequence[str] | None
    """Files (JSONL, JSON, CSV, Parquet), a folder, a hub name, or several; required, unless rows are passed."""

    dataset_weights: float | str | Sequence[float] | None
    """How often each of several data sets is drawn from, until one is used up; unset: one after the other."""

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
    """Which process trains; auto: the backend decides; process: one of its own; none: this one."""

    backend_options: Mapping[str, Any] | None
    """Anything else, passed to the backend's own config and checked there."""


class SftSettings(TrainingSettings, total=False):
    """The settings of SFT."""

    max_seq_length: int | None
    """Longest row, in tokens; longer ones are cut at the end."""

    packing: bool | None
    """Put several short rows into one sequence; refused where rows could see each other."""

    streaming: bool | None
    """Read rows while they are trained, so that memory does not grow with their number; needs max_steps."""

    assistant_only_loss: bool | None
    """Train the answers only; unset: yes where a row has a question and an answer."""


class DpoSettings(TrainingSettings, total=False):
    """The settings of DPO."""

    max_seq_length: int | None
    """Longest row, in tokens; longer ones are cut at the end."""

    beta: float | None
    """How strongly the policy is held to the reference model."""

    loss_type: str | Sequence[str] | None
    """The loss; several are summed, with loss_weights in backend_options."""


class RewardModelSettings(TrainingSettings, total=False):
    """The settings of reward models."""

    max_seq_length: int | None
    """Longest row, in tokens; longer ones are cut at the end."""


class RolloutSettings(TrainingSettings, total=False):
    """The settings of all that learns from rewards."""

    reward_functions: str | Callable[..., Any] | Mapping[str, Any] | Sequence[Any] | None
    """What scores an answer: names of rewards, FILE.py:name, module:function, or functions; they are summed."""

    reward_weights: float | str | Sequence[float] | None
    """A weight for each reward, the reward model's last; unset: all 1."""

    reward_model_name: str | None
    """A reward model: the run folder or the model that algorithm=reward gave, or a hub name."""

    reward_timeout: float | None
    """Seconds that a reward may take for a batch of answers."""

    overlong_cache: int | None
    """Tokens before max_completion_length from which on length is punished; 0: never."""

    num_generations: int | None
    """Answers to each prompt."""

    max_completion_length: int | None
    """Longest answer, in tokens."""

    temperature: float | None
    """Sampling temperature."""

    top_p: float | None
    """Nucleus sampling: the share kept."""

    num_iterations: int | None
    """Passes over a rollout."""

    steps_per_generation: int | None
    """Forward passes that share a rollout; unset: gradient_accumulation_steps."""

    epsilon: float | None
    """The ratio is clipped below 1 - epsilon."""

    epsilon_high: float | None
    """The ratio is clipped above 1 + epsilon_high; unset: epsilon."""


class GrpoSettings(RolloutSettings, total=False):
    """The settings of GRPO, GSPO, DAPO and Dr. GRPO."""

    beta: float | None
    """Weight of the KL divergence to the reference model; 0: no reference model."""

    scale_rewards: str | None
    """Divide advantages by the deviation of the rewards in the group, in the batch, or not at all."""

    mask_truncated_completions: bool | None
    """Leave answers that reached max_completion_length out of the loss."""

    dynamic_sampling_attempts: int | None
    """Rounds in which groups of equal rewards are replaced by groups of other prompts; 0: never."""


class PpoSettings(RolloutSettings, total=False):
    """The settings of PPO."""

    gamma: float | None
    """Discount of later rewards."""

    lam: float | None
    """Lambda of generalised advantage estimation."""

    kl_coef: float | None
    """Weight of the KL divergence (k1) to the reference model in the reward."""

    vf_coef: float | None
    """Weight of the value loss."""

    cliprange_value: float | None
    """A value moves at most so far from the one at the rollout."""

    critic: str | None
    """The critic: a model of its own, or a head on the policy's hidden states."""

    critic_learning_rate: float | None
    """The critic's peak learning rate; unset: learning_rate."""

    whiten: bool | None
    """Give the advantages of a rollout mean 0 and deviation 1."""

    missing_eos_penalty: float | None
    """Taken from the score of an answer that does not end by itself."""


class RlSettings(DpoSettings, RewardModelSettings, GrpoSettings, PpoSettings, total=False):
    """The settings of every algorithm but SFT; which of them an algorithm has is checked."""
