"""What a GPU is to prove, in stages; each result is written as it comes, and what is in OUT is not measured again.

    python benchmarks/gpu/stages.py OUT [--stage correctness] [--stage speed] [--smoke]

Models have random weights and the shapes of Qwen3-0.6B and of Llama 3.1 8B with fewer layers; no hub is needed.
*correctness*: each algorithm through both of our backends, in the precision that `auto` takes; the loss traces are to
agree within one per cent, those of rewards as far as both drew the same answers. *speed*: plain TRL with the same
arguments, plain TRL at its stock defaults, AlignTune's TRL and AlignTune's Unsloth, with LoRA and QLoRA; tokens a
second after warm-up, peak memory, the end loss and its difference from plain TRL's, and the share of the card's
measured bf16 rate that the model's operations (4 a parameter and token, 2 more for one that is trained; none for
looking a token up) come to. Every side is a process of its own. `--smoke` runs all of it on tiny models, on a CPU
with ALIGNTUNE_UNSLOTH_CPU=1 too, to see that it works; its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ALGORITHMS = ("sft", "dpo", "grpo", "dapo", "dr_grpo", "ppo")
WAYS: dict[str, dict[str, Any]] = {"full": {}, "lora": {"use_peft": True}, "qlora": {"load_in_4bit": True}}
SIDES = ("aligntune trl", "plain TRL, same arguments", "plain TRL, stock defaults", "aligntune unsloth")
"""In this order: the second is given what the first one's trainer held."""
SAME = (
    *("per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate", "lr_scheduler_type"),
    *("warmup_steps", "optim", "weight_decay", "max_grad_norm", "gradient_checkpointing", "bf16", "fp16", "loss_type"),
    *("padding_free", "seed", "data_seed"),
)
"""Arguments of TRL's that are handed on so."""
REWARD = f"{Path(__file__).with_name('reward.py')}:variety"


sys.path.append(str(Path(__file__).parents[1]))
from turns import our_clock, their_clock  # noqa: E402


@dataclass(frozen=True)
class Shape:
    """A model's shape; with `tie_word_embeddings`, tokens are looked up in the layer that gives the logits."""

    kind: str
    tie_word_embeddings: bool
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int


SHAPES = {
    "qwen3-0.6b": Shape("qwen3", True, 1024, 3072, 28, 16, 8, 128, 151_936),
    "llama-8b-8-layers": Shape("llama", False, 4096, 14_336, 8, 32, 8, 128, 128_256),
    "smoke": Shape("qwen3", True, 64, 128, 2, 4, 2, 16, 0),
}
SIZES = {
    False: {"batch": 4, "length": 1024, "steps": 40, "warm": 10},
    True: {"batch": 2, "length": 64, "steps": 6, "warm": 2},
}


def write_model(folder: Path, shape: Shape) -> None:
    """Random weights in bf16, and the tiny model's tokenizer."""
    import torch
    from aligntune_trl.tiny import write_tiny_model
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    write_tiny_model("causal_lm", folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    numbers = {name: value for name, value in asdict(shape).items() if name != "kind"}
    numbers["vocab_size"] = shape.vocab_size or len(tokenizer)
    special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    config = AutoConfig.for_model(shape.kind, **numbers, **special, max_position_embeddings=4096)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_rows(folder: Path, length: int) -> None:
    """Rows for each algorithm; those of SFT fill the length, so that all sides train as many tokens."""
    text = " ".join(str(n % 97) for n in range(length))
    sft = [{"prompt": f"Count {n}: ", "completion": f"{n} {text}"} for n in range(2000)]
    pairs = [{"prompt": f"Count {n}: ", "chosen": f"{n} {text}"[:200], "rejected": "no"} for n in range(2000)]
    asked = [{"prompt": f"Count {n}: "} for n in range(2000)]
    for name, rows in {"sft": sft, "dpo": pairs, "prompts": asked}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


# in a process of its own


def ours(folder: Path, backend: str, algorithm: str, way: str, size: dict[str, int]) -> dict[str, Any]:
    """A run through AlignTune."""
    from aligntune import get_trainer
    from aligntune_core.runs.folder import METRICS
    from aligntune_core.runs.metrics import read

    ends: list[float] = []
    rewarded: dict[str, Any] = {"reward_functions": [REWARD], "max_completion_length": 32, "batch_size": 8}
    own: dict[str, Any] = {
        "sft": {"max_seq_length": size["length"], "batch_size": size["batch"]},
        "dpo": {"max_seq_length": size["length"], "batch_size": size["batch"]},
        "ppo": rewarded,
    }.get(algorithm, rewarded | {"num_generations": 4})
    rows = folder / f"{algorithm if algorithm in ('sft', 'dpo') else 'prompts'}.jsonl"
    out = folder / f"{backend}-{algorithm}-{way}-{size['steps']}"
    with get_trainer(
        algorithm, backend, model_name=str(folder / "model"), dataset_name=str(rows), output_dir=str(out),
        max_steps=size["steps"], save_steps=size["steps"], logging_steps=1, learning_rate=1e-4, isolation="process",
        gradient_accumulation_steps=1, overwrite=True, **own, **WAYS[way],
    ) as trainer:  # fmt: skip
        trainer.listen(our_clock(lambda: ends.append(time.perf_counter())))
        trainer.train()
    run = json.loads((out / "run.json").read_text("utf-8"))
    trained = [row for row in read(out / METRICS) if row["split"] == "train"]
    return {
        "losses": [row["loss"] for row in trained],
        "rewards": [row["reward"] for row in trained if "reward" in row],
        "ends": ends,
        "gpu": run["peak_memory"]["gpu"],
        "trained_parameters": run["resolved"]["trained_parameters"],
        "parameters": run["resolved"]["parameters"],
        "versions": run["versions"],
        "arguments": {name: run["resolved"].get(name) for name in SAME},
    }


def plain(folder: Path, way: str, size: dict[str, int], arguments: dict[str, Any]) -> dict[str, Any]:
    """The script that a TRL user writes, with these arguments; with none, what TRL does unasked."""
    import torch
    import trl
    from datasets import load_dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    ends: list[float] = []
    gpu = torch.cuda.is_available()
    quantised = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    model = AutoModelForCausalLM.from_pretrained(
        folder / "model", dtype=torch.bfloat16 if gpu else torch.float32, device_map={"": 0} if gpu else None,
        **({"quantization_config": quantised} if way == "qlora" else {}),
    )  # fmt: skip
    args = trl.SFTConfig(
        output_dir=str(folder / "plain"), max_steps=size["steps"], max_length=size["length"], logging_steps=1,
        report_to="none", save_strategy="no", use_cpu=not gpu, **arguments,
    )  # fmt: skip
    adapter = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    rows = load_dataset("json", data_files=str(folder / "sft.jsonl"), split="train")
    trainer = trl.SFTTrainer(
        model, args=args, train_dataset=rows, peft_config=None if way == "full" else adapter,
        callbacks=[their_clock(lambda: ends.append(time.perf_counter()))],
    )  # fmt: skip
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    trained = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    return {
        "losses": losses,
        "ends": ends,
        "gpu": torch.cuda.max_memory_allocated() if gpu else None,
        "trained_parameters": trained,
        "parameters": trainer.model.num_parameters(),
        "rows_a_step": args.per_device_train_batch_size * args.gradient_accumulation_steps,
    }


def matmul_rate() -> float | None:
    """Operations a second of a large bf16 product, measured; None without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    size, times = 8192, 30
    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(5):
        a @ b
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(times):
        a @ b
    torch.cuda.synchronize()
    return 2 * size**3 * times / (time.perf_counter() - began)


def child(folder: Path, job: dict[str, Any]) -> None:
    """One side; its last line is what came of it."""
    if job["side"] == "rate":
        found: Any = matmul_rate()
    elif job["side"].startswith("plain"):
        found = plain(folder, job["way"], job["size"], job["arguments"])
    else:
        found = ours(folder, job["side"].split()[1], job["algorithm"], job["way"], job["size"])
    print("\n" + json.dumps(found))


# the stages


class Bench:
    """Runs sides in processes of their own, and writes what they come to.

    Args:
        out: where results go.
        smoke: tiny models.
    """

    def __init__(self, out: Path, *, smoke: bool) -> None:
        self.out, self.smoke, self.size = out, smoke, SIZES[smoke]

    def inputs(self, name: str) -> Path:
        """The folder with a model of this shape and with rows."""
        folder = self.out / "inputs" / name
        if not (folder / "sft.jsonl").exists():
            write_model(folder / "model", SHAPES[name])
            write_rows(folder, self.size["length"])
        return folder

    def run(self, folder: Path, **job: Any) -> Any:
        """A side in a fresh process; an error is kept instead of numbers."""
        job = {"size": self.size, "algorithm": "sft", "way": "lora", "arguments": {}, **job}
        command = [sys.executable, __file__, str(folder), "--child", json.dumps(job)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return {"error": done.stderr[-2000:]}
        return json.loads(done.stdout.splitlines()[-1])

    def earlier(self, stage: str) -> dict[str, Any]:
        """What a run before this one came to, which may have been cut short."""
        path = self.out / f"{stage}.json"
        return json.loads(path.read_text("utf-8")) if path.exists() else {}

    def keep(self, stage: str, results: Any) -> None:
        """Write a stage's results as they are now."""
        (self.out / f"{stage}.json").write_text(json.dumps(results, indent=1), "utf-8")
        print(stage, json.dumps(results)[-300:], flush=True)


def correctness(bench: Bench) -> None:
    """Loss traces of both backends, and the largest relative difference."""
    folder = bench.inputs("smoke" if bench.smoke else "qwen3-0.6b")
    results = bench.earlier("correctness")
    jobs = [(algorithm, way) for algorithm in ALGORITHMS for way in ("lora", *(WAYS if algorithm == "sft" else ()))]
    for algorithm, way in dict.fromkeys(jobs):
        if f"{algorithm} {way}" in results:
            continue
        sides = {
            name: bench.run(folder, side=f"aligntune {name}", algorithm=algorithm, way=way)
            for name in ("trl", "unsloth")
        }
        traces = [found.get("losses", []) for found in sides.values()]
        pairs = list(zip(*traces, strict=False))
        worst = max((abs(a - b) / max(abs(a), 1e-3) for a, b in pairs), default=None)
        results[f"{algorithm} {way}"] = {"largest difference": worst, **sides}
        bench.keep("correctness", results)


def speed(bench: Bench) -> None:
    """Tokens a second after warm-up, memory, end loss and the share of the card's rate, of each side."""
    names = ["smoke"] if bench.smoke else [name for name in SHAPES if name != "smoke"]
    results = bench.earlier("speed")
    if "bf16 rate" not in results:
        results["bf16 rate"] = bench.run(bench.inputs(names[0]), side="rate")
    rate = results["bf16 rate"] if isinstance(results["bf16 rate"], float) else None
    for name in names:
        for way in ("lora", "qlora"):
            for side in SIDES:
                if f"{name} {way}: {side}" in results:
                    continue
                held = results.get(f"{name} {way}: aligntune trl", {}).get("arguments", {})
                arguments = held if side == "plain TRL, same arguments" else {}
                found = bench.run(bench.inputs(name), side=side, way=way, arguments=arguments)
                results[f"{name} {way}: {side}"] = summary(found, SHAPES[name], bench.size, rate)
                bench.keep("speed", results)
            compared(results, f"{name} {way}")
            bench.keep("speed", results)


def compared(results: dict[str, Any], name: str) -> None:
    """Add to each side how it stands to plain TRL: the loss to that with our arguments, the rest to stock defaults."""
    same, stock = (results[f"{name}: plain TRL, {how}"] for how in ("same arguments", "stock defaults"))
    for found in (results[f"{name}: {side}"] for side in SIDES):
        if "error" in found or "error" in same or "error" in stock:
            continue
        found["end loss, relative difference"] = found["end loss"] / same["end loss"] - 1
        found["times stock TRL, tokens a second"] = found["tokens a second"] / stock["tokens a second"]
        found["times stock TRL, memory"] = found["gpu"] / stock["gpu"] if stock["gpu"] else None


def summary(found: dict[str, Any], shape: Shape, size: dict[str, int], rate: float | None) -> dict[str, Any]:
    """A side's numbers: every row fills its length, so the tokens of a step are known."""
    if "error" in found:
        return found
    tokens = found.get("rows_a_step", size["batch"]) * size["length"]
    ends = found["ends"][size["warm"] - 1 :]
    a_second = tokens * (len(ends) - 1) / (ends[-1] - ends[0])
    looked_up = 0 if shape.tie_word_embeddings else shape.vocab_size * shape.hidden_size
    operations = 4 * (found["parameters"] - looked_up) + 2 * found["trained_parameters"]
    return {
        "tokens a second": a_second,
        "gpu": found["gpu"],
        "arguments": found.get("arguments", {}),
        "end loss": found["losses"][-1],
        "share of the bf16 rate": operations * a_second / rate if rate else None,
        "seconds of each step": [b - a for a, b in zip(found["ends"], found["ends"][1:], strict=False)],
    }


STAGES = {"correctness": correctness, "speed": speed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--stage", action="append", choices=list(STAGES))
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.out, json.loads(options.child))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    for stage in options.stage or STAGES:
        STAGES[stage](Bench(options.out, smoke=options.smoke))


if __name__ == "__main__":
    main()
