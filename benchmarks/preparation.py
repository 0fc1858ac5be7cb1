"""Reading, tokenising and masking chat rows through AlignTune against TRL's SFTTrainer; and the memory of a stream.

    python benchmarks/preparation.py MESSAGES.jsonl [--tokenizer FOLDER]

The rows are those of the file again and again, each message with a running number, so that no two are alike. Both sides
train the answers only: AlignTune by where they stand in the text, TRL (`assistant_only_loss=True`) by the template's
`{% generation %}` marks. So the tokenizer, the demo's or that of a folder, gets a template of ours that has the marks.
Each side runs in a fresh process with a fresh cache folder, in turns; rows, tokens or labels that differ end the
benchmark. Libraries, tokenizer and model are loaded before the clock starts. TRL's rows are read by `load_dataset`, and
prepared by its own `_prepare_dataset`, in one process as by default.

Then a few steps of SFT on more and more rows, with `streaming: true` and without, each in a fresh process: peak memory.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pairs import machine, ratio

LENGTH = 512
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content + eos_token }}{% endgeneration %}{% else %}{{ m.content + eos_token }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""The demo's, with marks around what an assistant says; a turn ends with what ends a sequence."""
STEPS, BATCH = 4, 8
Found = dict[str, Any]


# What both are given.


def write_rows(source: Path, count: int, path: Path) -> None:
    """So many conversations, each other than all others."""
    found = [json.loads(line)["messages"] for line in source.read_text("utf-8").splitlines()]
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            messages = found[number % len(found)]
            row = [{**message, "content": f"{message['content']} ({number})"} for message in messages]
            file.write(json.dumps({"messages": row}, ensure_ascii=False) + "\n")


def write_model(folder: Path, tokenizer_folder: Path | None) -> None:
    """A small random model, which TRL's trainer wants to have, and the tokenizer."""
    from aligntune_trl.tiny import write_tiny_model
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    write_tiny_model("causal_lm", folder)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder or folder)
    tokenizer.chat_template = TEMPLATE
    if tokenizer_folder:
        config = Qwen2Config(
            vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=2, pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


# In a process of each side.


class Clock:
    """Seconds since the last look, wall-clock and processor's (all threads)."""

    def __init__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def look(self) -> tuple[float, float]:
        now = time.perf_counter(), time.process_time()
        wall, cpu = now[0] - self._began[0], now[1] - self._began[1]
        self._began = now
        return wall, cpu


def through_aligntune(model: Path, rows: Path) -> tuple[Any, dict[str, tuple[float, float]]]:
    """The rows as a run of SFT prepares them, and what each part took."""
    from aligntune_trl.tokenise import Tokeniser, tokenise_dataset
    from aligntune_trl.tokenizer import load_tokenizer

    from aligntune_core.config import SftConfig
    from aligntune_core.data.library import library
    from aligntune_core.data.read import load_rows

    library()
    config = SftConfig(model_name=str(model), dataset_name=str(rows), max_seq_length=LENGTH)
    tokenizer = load_tokenizer(config, str(model))
    clock = Clock()
    read = load_rows(config)
    times = {"read": clock.look()}
    tokens = tokenise_dataset(read.train, Tokeniser(tokenizer), LENGTH, "dataset_name")
    return tokens, times | {"tokenise": clock.look()}


def plain(model: Path, rows: Path) -> tuple[Any, dict[str, tuple[float, float]]]:
    """The same by TRL."""
    from datasets import disable_progress_bars, load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    times = {}

    class Timed(SFTTrainer):  # type: ignore[misc]  # TRL is not typed
        def _prepare_dataset(self, *args: Any, **kwargs: Any) -> Any:
            clock = Clock()
            prepared = super()._prepare_dataset(*args, **kwargs)
            times["tokenise"] = clock.look()
            return prepared

    disable_progress_bars()
    tokenizer, policy = AutoTokenizer.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model)
    arguments = SFTConfig(
        output_dir=str(model / "out"), max_length=LENGTH, assistant_only_loss=True, use_cpu=True, bf16=False,
        report_to="none",
    )  # fmt: skip
    clock = Clock()
    table = load_dataset("json", data_files=str(rows), split="train")
    times["read"] = clock.look()
    trainer = Timed(policy, args=arguments, train_dataset=table, processing_class=tokenizer)
    return trainer.train_dataset, times


def digest(tokens: Any) -> tuple[int, str]:
    """How many tokens there are, and a digest of all rows' tokens and labels."""
    total, count = hashlib.sha256(), 0
    for table in tokens.with_format("arrow").iter(batch_size=1000):
        for name in ("input_ids", "labels"):
            column = table[name].combine_chunks()
            for values in (column.value_lengths(), column.flatten()):
                total.update(values.to_numpy(zero_copy_only=False).astype("int64").tobytes())
        count += len(column.flatten())
    return count, total.hexdigest()


def trained(model: Path, rows: Path, *, streaming: bool) -> Found:
    """A few steps of SFT."""
    from aligntune import create_sft_trainer

    with tempfile.TemporaryDirectory() as folder:
        trainer = create_sft_trainer(
            backend="trl", model_name=str(model), dataset_name=str(rows), streaming=streaming, max_steps=STEPS,
            batch_size=BATCH, gradient_accumulation_steps=1, max_seq_length=LENGTH, output_dir=f"{folder}/run",
        )  # fmt: skip
        trainer.train()
    return {}


def prepared(prepare: Callable[[Path, Path], tuple[Any, Any]], model: Path, rows: Path) -> Found:
    """What a side prepared, and how long it took."""
    tokens, times = prepare(model, rows)
    memory = peak()  # before the digest takes some
    count, hashed = digest(tokens)
    done = {"rows": len(tokens), "tokens": count, "labels of the first": tokens[0]["labels"], "digest of all": hashed}
    return {"times": times, "peak": memory, "done": done}


def peak() -> int:
    """Bytes of memory that this process has had at most."""
    status = Path("/proc/self/status").read_text("utf-8")
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


KINDS: dict[str, Callable[[Path, Path], Found]] = {
    "aligntune": lambda model, rows: prepared(through_aligntune, model, rows),
    "plain": lambda model, rows: prepared(plain, model, rows),
    "streaming": lambda model, rows: trained(model, rows, streaming=True),
    "whole": lambda model, rows: trained(model, rows, streaming=False),
}


def child(kind: str, model: Path, rows: Path) -> None:
    """One side; its last line tells what came of it."""
    found = KINDS[kind](model, rows)
    print("\n" + json.dumps({"peak": peak()} | found))


# Which are compared here.


def run(kind: str, model: Path, rows: Path) -> Found:
    """A fresh process with a fresh cache."""
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, __file__, str(rows), "--child", kind, "--model", str(model)]
        environment = {**os.environ, "HF_DATASETS_CACHE": cache}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{kind} failed: {done.stderr[-2000:]}")
    found: Found = json.loads(done.stdout.splitlines()[-1])
    return found


def pair_of(model: Path, rows: Path, order: tuple[str, str]) -> tuple[Found, Found]:
    """Both sides, ours first."""
    sides = {kind: run(kind, model, rows) for kind in order}
    ours, theirs = sides["aligntune"], sides["plain"]
    for what, mine in ours["done"].items():
        if mine != (other := theirs["done"][what]):
            sys.exit(f"the two do not prepare the same: {what} {mine} and {other}")
    return ours, theirs


MEASURES: dict[str, Callable[[Found], float]] = {
    "reading, s": lambda found: found["times"]["read"][0],
    "tokenising and masking, s": lambda found: found["times"]["tokenise"][0],
    "both, s": lambda found: sum(wall for wall, _ in found["times"].values()),
    "both, processor time, s": lambda found: sum(cpu for _, cpu in found["times"].values()),
    "peak memory, GiB": lambda found: found["peak"] / 2**30,
}


def compare(model: Path, rows: Path, pairs: int) -> None:
    """Prepare the rows on both sides, as a table."""
    order = ("aligntune", "plain")
    found = [pair_of(model, rows, order if pair % 2 == 0 else order[::-1]) for pair in range(pairs)]
    done = found[0][0]["done"]
    print(f"{done['rows']} rows, {done['tokens']} tokens: these and the labels are the same on both sides\n")
    print(f"| | AlignTune, median | TRL, median | ratio: least, median, greatest of {pairs} pairs |\n|---|---|---|---|")
    for title, measure in MEASURES.items():
        ours, theirs = ([measure(side) for side in sides] for sides in zip(*found, strict=True))
        low, middle, high = ratio(ours, theirs)
        medians = f"{statistics.median(ours):.2f} | {statistics.median(theirs):.2f}"
        print(f"| {title} | {medians} | {low:.3f}, **{middle:.3f}**, {high:.3f} |")


def compare_memory(folder: Path, source: Path, counts: list[int]) -> None:
    """Train on more and more rows, as a table."""
    print(f"\nPeak memory of {STEPS} steps of {BATCH} rows, the demo's model, MiB\n")
    print("| rows | file | `streaming: true` | read whole |\n|---|---|---|---|")
    write_model(folder / "demo", None)
    for count in counts:
        rows = folder / f"{count}.jsonl"
        write_rows(source, count, rows)
        streamed, whole = (run(kind, folder / "demo", rows)["peak"] / 2**20 for kind in ("streaming", "whole"))
        print(f"| {count} | {rows.stat().st_size / 2**20:.0f} | {streamed:.0f} | {whole:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("messages", type=Path)
    parser.add_argument("--tokenizer", type=Path)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--streamed", type=int, nargs="*", default=[5_000, 20_000, 80_000])
    parser.add_argument("--child", choices=list(KINDS), help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.model, options.messages)
        return
    print(machine("aligntune", "trl", "transformers", "tokenizers", "datasets"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.pairs:
            write_model(folder / "model", options.tokenizer)
            write_rows(options.messages, options.rows, folder / "rows.jsonl")
            compare(folder / "model", folder / "rows.jsonl", options.pairs)
        if options.streamed:
            compare_memory(folder, options.messages, options.streamed)


if __name__ == "__main__":
    main()
