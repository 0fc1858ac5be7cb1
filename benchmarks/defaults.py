"""SFT at AlignTune's defaults against a plain TRL script at TRL's defaults, and what makes the difference.

The same model, rows, learning rate and number of rows in an update, so the same tokens are trained, which is checked;
everything else is what each side does unasked. Further sides change one default each: TRL without gradient
checkpointing, TRL in fp32, AlignTune with rows in passes as they were drawn, or with TRL's schedule. Each side is a
process of its own, and they take turns step by step. Prints the steps' wall-clock and processor time, and the loss on
held-back rows, which one function computes for each model.

    python benchmarks/defaults.py NAME=ROWS.jsonl OTHER=ROWS.jsonl      rows of instruction and output

The small model is no random one, for its first hundred steps would be nothing that anybody does: before each contest it
learns the other file's rows for `--first` steps by plain TRL, at `--first-rate`. `--first 0` leaves it random.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from turns import Contest, Ended, Side, our_clock, tell, their_clock

HELD_BACK, UPDATE = 200, 16
FIRST = "first"
"""The child that makes the model."""
SIDES: dict[str, dict[str, Any]] = {
    "aligntune": {},
    "aligntune, rows as drawn": {"backend_options": {"train_sampling_strategy": "random"}},
    "aligntune, TRL's schedule": {"lr_scheduler": "linear", "warmup_steps": 0},
    "trl": {},
    "trl, no gradient checkpointing": {"gradient_checkpointing": False},
    "trl, fp32": {"bf16": False},
    "trl, fp32, no gradient checkpointing": {"bf16": False, "gradient_checkpointing": False},
}


def pairs_of(rows: Path) -> list[dict[str, str]]:
    """Prompts and completions, shuffled with a seed."""
    given = [json.loads(line) for line in rows.read_text("utf-8").splitlines()]
    random.Random(0).shuffle(given)  # noqa: S311
    return [{"prompt": f"{row['instruction']}\n", "completion": row["output"]} for row in given]


def write_inputs(folder: Path, rows: Path, others: list[Path], steps: int) -> None:
    """A random model of 3 layers with a tokenizer of the rows that it learns, and these: first, then in the steps."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    pairs, first = pairs_of(rows), [pair for other in others for pair in pairs_of(other)]
    learnt = pairs[HELD_BACK : HELD_BACK + steps * UPDATE]
    for name, part in (("first", first), ("train", learnt), ("held", pairs[:HELD_BACK])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), "utf-8")
    tokenizer = tokenizer_of([row["prompt"] + row["completion"] for row in first or learnt])
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=192, intermediate_size=576, num_hidden_layers=3, num_attention_heads=6,
        num_key_value_heads=6, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")


def tokenizer_of(texts: list[str]) -> Any:
    """A byte-level BPE tokenizer of 2,048 tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|pad|>", "<|end|>"]
    core.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=2048, special_tokens=special, initial_alphabet=alphabet)
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token=special[0], pad_token=special[0], eos_token=special[1]
    )


def learn_first(folder: Path, steps: int, rate: float) -> None:
    """The model as it comes to both sides: trained on the other rows, by plain TRL."""
    import trl
    from datasets import load_dataset

    args = trl.SFTConfig(
        output_dir=str(folder / "first"), learning_rate=rate, max_steps=steps, per_device_train_batch_size=UPDATE,
        gradient_checkpointing=False, use_cpu=True, bf16=False, report_to="none", disable_tqdm=True, save_strategy="no",
    )  # fmt: skip
    rows = load_dataset("json", data_files=str(folder / "first.jsonl"), split="train")
    trainer = trl.SFTTrainer(str(folder / "model"), args=args, train_dataset=rows)
    trainer.train()
    trainer.save_model(str(folder / "model"))


def outcome(trainer: Any, folder: Path) -> dict[str, float]:
    """What a side came to."""
    trained = sum(label != -100 for row in trainer.train_dataset for label in row["labels"])
    return {"loss": held_back_loss(trainer.model, folder), "trained": trained}


def plain(folder: Path, changes: dict[str, Any], steps: int, rate: float, ended: Ended) -> dict[str, float]:
    """The script that a TRL user writes; TRL's batch of 8, accumulated to as many rows an update as ours."""
    import trl
    from datasets import load_dataset

    # The output folder, the machine and the trackers are the user's own on either side.
    own = {"output_dir": str(folder / "out"), "use_cpu": True, "report_to": "none", "disable_tqdm": True}
    args = trl.SFTConfig(learning_rate=rate, max_steps=steps, gradient_accumulation_steps=UPDATE // 8, **own, **changes)
    rows = load_dataset("json", data_files=str(folder / "train.jsonl"), split="train")
    trainer = trl.SFTTrainer(str(folder / "model"), args=args, train_dataset=rows, callbacks=[their_clock(ended)])
    trainer.train()
    return outcome(trainer, folder)


def ours(folder: Path, changes: dict[str, Any], steps: int, rate: float, ended: Ended) -> dict[str, float]:
    """The same through AlignTune, whose defaults make an update of 16 rows."""
    from aligntune import create_sft_trainer

    trainer = create_sft_trainer(
        model_name=str(folder / "model"), dataset_name=str(folder / "train.jsonl"), backend="trl", max_steps=steps,
        learning_rate=rate, output_dir=str(folder / f"run-{os.getpid()}"), **changes,
    )  # fmt: skip
    trainer.listen(our_clock(ended))
    trainer.train()
    return outcome(trainer.native, folder)


def held_back_loss(model: Any, folder: Path) -> float:
    """The mean over the answers' tokens, in fp32, one row at a time."""
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    model = model.float().eval()
    total, count = 0.0, 0
    for line in (folder / "held.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        asked = len(tokenizer(row["prompt"]).input_ids)
        ids = tokenizer(row["prompt"] + row["completion"] + tokenizer.eos_token, return_tensors="pt").input_ids[
            :, :1024
        ]
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, asked - 1 : -1]
        total += torch.nn.functional.cross_entropy(logits, ids[0, asked:], reduction="sum").item()
        count += len(ids[0]) - asked
    return total / count


def run(name: str, rows: Path, others: list[Path], options: argparse.Namespace) -> None:
    """All sides on one data set, as rows of the table."""
    steps, kinds = options.steps, options.side or list(SIDES)
    with tempfile.TemporaryDirectory() as folder:
        write_inputs(Path(folder), rows, others, steps)
        given = ("--folder", folder, "--steps", str(steps), "--learning-rate", str(options.learning_rate))
        contest = Contest(name, (sys.executable, __file__, *given), Path(folder), steps)
        if options.first and others:
            first = ("--child", FIRST, "--steps", str(options.first), "--learning-rate", str(options.first_rate))
            subprocess.run([*contest.command, *first], check=True, capture_output=True)
        sides = {kind: Side(contest, kind) for kind in kinds}
        for number in range(1, steps):
            for kind in kinds if number % 2 else reversed(kinds):
                sides[kind].step()
        spent = {kind: [sum(column) for column in zip(*side.steps, strict=True)] for kind, side in sides.items()}
        outcomes = {kind: side.outcome() for kind, side in sides.items()}
    losses = {kind: found["loss"] for kind, found in outcomes.items()}
    if len({found["trained"] for found in outcomes.values()}) > 1:
        sys.exit(f"{name}: they do not train as many tokens: {outcomes}")
    trained = f"{outcomes[kinds[0]]['trained']:.0f} tokens, {steps} steps of {UPDATE} rows without the first"
    print(f"\n| {name}, {trained} | wall-clock | times as fast as TRL | processors | the same | loss | against TRL |")
    print("|---|---|---|---|---|---|---|")
    for kind in kinds:
        (wall, cpu), (their_wall, their_cpu) = spent[kind], spent["trl"]
        times = f"{wall:.1f} s | {their_wall / wall:.2f} | {cpu:.1f} s | {their_cpu / cpu:.2f}"
        print(f"| {kind} | {times} | {losses[kind]:.4f} | {losses[kind] / losses['trl'] - 1:+.2%} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--first", type=int, default=600)
    parser.add_argument("--first-rate", type=float, default=1e-3)
    parser.add_argument("--side", action="append", choices=list(SIDES))
    parser.add_argument("--child", choices=[FIRST, *SIDES], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child == FIRST:
        learn_first(options.folder, options.steps, options.learning_rate)
        return
    if options.child:
        side = ours if options.child.startswith("aligntune") else plain
        changes = SIDES[options.child]
        tell(lambda ended: side(options.folder, changes, options.steps, options.learning_rate, ended))
        return
    from pairs import machine

    print(machine("aligntune", "trl", "transformers", "torch"))
    files = {name: Path(path) for name, _, path in (pair.partition("=") for pair in options.rows)}
    for name, rows in files.items():
        run(name, rows, [other for other in files.values() if other != rows], options)


if __name__ == "__main__":
    main()
