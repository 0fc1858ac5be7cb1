"""Names from other tools that mean one of our settings. The canonical name is the one that is kept and shown."""

from __future__ import annotations

ALIASES: dict[str, tuple[str, ...]] = {
    "model_name": ("model_name_or_path", "base_model", "pretrained_model_name_or_path"),
    "revision": ("model_revision",),
    "attn_implementation": ("attn_impl",),
    "dataset_name": ("dataset", "dataset_path", "train_file"),
    "split": ("dataset_train_split", "train_split"),
    "eval_dataset_name": ("eval_dataset", "eval_file", "validation_file"),
    "eval_fraction": ("val_size", "val_set_size", "test_split_size", "val_split_ratio"),
    "column_mapping": ("columns", "column_map"),
    "output_dir": ("output", "out_dir", "output_path"),
    "overwrite": ("overwrite_output_dir",),
    "resume": ("resume_from_checkpoint",),
    "num_epochs": ("num_train_epochs", "epochs", "max_epochs"),
    "batch_size": ("per_device_train_batch_size", "micro_batch_size", "per_device_batch_size"),
    "eval_batch_size": ("per_device_eval_batch_size",),
    "gradient_accumulation_steps": ("gradient_accumulation", "grad_accumulation", "grad_accum"),
    "learning_rate": ("lr",),
    "lr_scheduler": ("lr_scheduler_type", "scheduler"),
    "warmup_steps": ("warmup_ratio", "num_warmup_steps"),
    "optimizer": ("optim",),
    "precision": ("dtype", "torch_dtype", "mixed_precision"),
    "max_seq_length": ("max_length", "sequence_len", "cutoff_len", "max_seq_len", "model_max_length", "block_size"),
    "use_peft": ("use_lora", "peft"),
    "lora_r": ("lora_rank",),
    "lora_target_modules": ("target_modules", "lora_target", "lora_targets"),
    "report_to": ("loggers",),
    "logging_steps": ("log_interval",),
    "reward_functions": ("reward_funcs", "reward_function"),
    "reward_model_name": ("reward_model", "reward_model_path"),
    "num_generations": ("group_size", "rollouts_per_prompt"),
    "num_iterations": ("num_ppo_epochs", "ppo_epochs"),
    "max_completion_length": ("response_length", "max_response_length"),
    "epsilon": ("cliprange", "clip_range", "epsilon_low"),
    "lam": ("gae_lambda",),
    "critic_learning_rate": ("critic_lr",),
    "whiten": ("whiten_advantages",),
}

BY_ALIAS = {alias: name for name, aliases in ALIASES.items() for alias in aliases}
