"""SFT, DPO and GRPO through AlignTune against plain TRL scripts with the same explicit arguments.

Each side runs in a process of its own, and the two take turns (see `turns`); losses that differ end the benchmark.
Prints, for models whose step takes at least 0.3 s and for SFT of a tiny one, the ratios of a step's wall-clock time, of
its processor time (all threads, those of rewards too), and of the time from the start of the script to the end of the
first step.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pairs import machine
from turns import OURS, PLAIN, Contest, Ended, compare, our_clock, print_head, tell, their_clock

GENERATIONS, LONGEST = 8, 32


@dataclass(frozen=True)
class Job:
    """An algorithm, a model's shape, and how much it trains.

    Attributes:
        words: of an answer in the rows.
        logging_steps: steps between two rows of metrics.
    """

    algorithm: str
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    batch: int
    steps: int
    words: int = 0
    logging_steps: int = 10


JOBS = {
    "large": Job("sft", 512, 1536, 8, batch=8, steps=8, words=120),
    "tiny": Job("sft", 64, 128, 2, batch=2, steps=150, words=12),
    "dpo": Job("dpo", 256, 768, 4, batch=8, steps=20, words=60, logging_steps=1),
    "grpo": Job("grpo", 256, 768, 4, batch=16, steps=20, logging_steps=1),
}


def letters(completions: list[str], **columns: Any) -> list[float]:
    """A reward that costs nothing: the share of the letter a."""
    return [text.count("a") / (1 + len(text)) for text in completions]


def rows_of(job: Job) -> list[dict[str, str]]:
    """As many rows as the steps take."""
    words = ["the", "model", "reads", "each", "token", "of", "text", "and", "learns", "an", "answer"] * 20
    count = job.steps * job.batch // (GENERATIONS if job.algorithm == "grpo" else 1)
    texts = [" ".join(words[n % 7 : n % 7 + job.words]) for n in range(count + 1)]
    prompts = [{"prompt": f"Question {n}: "} for n in range(count)]
    if job.algorithm == "grpo":
        return prompts
    answers = {"sft": ["completion"], "dpo": ["chosen", "rejected"]}[job.algorithm]
    return [row | {name: texts[n + shift] for shift, name in enumerate(answers)} for n, row in enumerate(prompts)]


def write_inputs(folder: Path, job: Job) -> None:
    """A random model of that size with the demo's tokenizer, and rows."""
    from aligntune_trl.tiny import write_tiny_model
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    write_tiny_model("causal_lm", folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=job.hidden_size, intermediate_size=job.intermediate_size,
        num_hidden_layers=job.num_hidden_layers, num_attention_heads=8, num_key_value_heads=8,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder / "model")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows_of(job)), "utf-8")


def plain(folder: Path, job: Job, ended: Ended) -> list[float]:
    """The script that a TRL user writes; calls `ended` after each step, and gives the losses."""
    import torch
    import trl
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    common: dict[str, Any] = {
        "output_dir": str(folder / "out"), "seed": 42, "data_seed": 42, "num_train_epochs": 1,
        "per_device_train_batch_size": job.batch, "gradient_accumulation_steps": 1, "learning_rate": 2e-5,
        "lr_scheduler_type": "cosine", "warmup_steps": 0.03, "optim": "adamw_torch_fused", "bf16": False,
        "use_cpu": True, "gradient_checkpointing": False, "logging_steps": job.logging_steps, "report_to": "none",
        "disable_tqdm": True, "save_strategy": "no", "dataloader_pin_memory": False, "logging_nan_inf_filter": False,
    }  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    rows = load_dataset("json", data_files=str(folder / "rows.jsonl"), split="train")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    given = {"train_dataset": rows, "processing_class": tokenizer, "callbacks": [their_clock(ended)]}
    if job.algorithm == "sft":
        trainer = trl.SFTTrainer(model, args=trl.SFTConfig(max_length=512, loss_type="nll", **common), **given)
    elif job.algorithm == "dpo":
        args = trl.DPOConfig(max_length=512, beta=0.1, loss_type=["sigmoid"], **common)
        trainer = trl.DPOTrainer(model, args=args, **given)
    else:
        args = trl.GRPOConfig(
            num_generations=GENERATIONS, max_completion_length=LONGEST, steps_per_generation=1, num_iterations=1,
            temperature=1.0, top_p=1.0, top_k=0, beta=0.04, use_bias_correction_kl=False, epsilon=0.2, loss_type="grpo",
            scale_rewards="group", disable_dropout=True, **common,
        )  # fmt: skip
        trainer = trl.GRPOTrainer(model, reward_funcs=letters, args=args, **given)
    trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def through_aligntune(folder: Path, job: Job, ended: Ended) -> list[float]:
    """The same through AlignTune."""
    from aligntune import get_trainer

    own: dict[str, Any] = {"max_seq_length": 512}
    if job.algorithm == "grpo":
        own = {"num_generations": GENERATIONS, "max_completion_length": LONGEST, "reward_functions": [letters]}
    trainer = get_trainer(
        job.algorithm, backend="trl", model_name=str(folder / "model"), dataset_name=str(folder / "rows.jsonl"),
        num_epochs=1, batch_size=job.batch, gradient_accumulation_steps=1, learning_rate=2e-5, save_steps=10**6,
        logging_steps=job.logging_steps, output_dir=str(folder / f"run-{time.time_ns()}"), **own,
    )  # fmt: skip
    trainer.listen(our_clock(ended))
    trainer.train()
    return [row["loss"] for row in trainer.native.state.log_history if "loss" in row]


def contest_of(name: str, folder: Path) -> Contest:
    """A job, whose inputs are in the folder."""
    command = (sys.executable, __file__, "--size", name, "--folder", str(folder))
    return Contest(name, command, folder, JOBS[name].steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--child", choices=[PLAIN, OURS])
    parser.add_argument("--size", choices=list(JOBS), action="append")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.child:
        train = plain if options.child == PLAIN else through_aligntune
        tell(partial(train, options.folder, JOBS[options.size[0]]))
        return
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    print(f"{machine('aligntune', 'trl', 'transformers', 'torch')}; OMP_NUM_THREADS: {threads}")
    print_head("plain TRL", options.pairs)
    for name in options.size or JOBS:
        with tempfile.TemporaryDirectory() as folder:
            write_inputs(Path(folder), JOBS[name])
            compare(contest_of(name, Path(folder)), options.pairs)


if __name__ == "__main__":
    main()
