"""Our PPO against the one that TRL dropped: `trl==1.12.0`'s, in an environment of its own.

    python -m venv former && former/bin/pip install torch==2.13.0 trl==1.12.0 transformers==5.17.0
    python benchmarks/ppo.py former/bin/python

Both train the same random model on the same prompts, with a critic of its size and the same reward model, which scores
the share of an answer's words that contain a "b". For each seed the two run one after the other, in turns; the time is
that of the loop, and every trained policy answers the same held-back prompts. Prints Markdown. Takes ten minutes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pairs import machine, ratio

from aligntune_core import Callback

SETTINGS: dict[str, Any] = {
    "rollout": 64, "mini_batch": 16, "epochs": 4, "response_length": 16, "rollouts": 25, "learning_rate": 1e-3,
    "kl_coef": 0.05, "vf_coef": 0.1, "cliprange": 0.2, "cliprange_value": 0.2, "gamma": 1.0, "lam": 0.95,
}  # fmt: skip
SHAPE = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 32}
WORDS, PROMPTS, HELD_BACK, SAMPLES = 200, 256, 64, 8
SPECIAL = ["[PAD]", "[NONE]", "[END]"]
WANTED, WORTH = "b", 4.0
"""The letter, and about what an answer of nothing but words with it scores."""
SCRIPTS = {"ours": Path(__file__), "former": Path(__file__).with_name("ppo_former.py")}


# What both are given.


def words() -> list[str]:
    """Words of two syllables, always the same ones."""
    syllables = ["".join(pair) for pair in itertools.product("bcdfghjklmnpqrstvwxz", "aeiou")]
    every = ["".join(pair) for pair in itertools.product(syllables, repeat=2)]
    return random.Random(0).sample(every, WORDS)  # noqa: S311 - no secret


def write_tokenizer(folder: Path) -> Any:
    """One token a word, so that an answer's text says which tokens it has."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate([*SPECIAL, ":", *words()])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL[1]))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    pad, unknown, end = SPECIAL
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token=pad, unk_token=unknown, eos_token=end)
    tokenizer.save_pretrained(folder)
    return tokenizer


def as_reward(model: Any, tokenizer: Any) -> None:
    """Set the weights so that the score follows the share of tokens with the wanted letter.

    Each embedding is of the same length, and says whether its token is wanted and whether it ends the answer. The first
    layer attends to all tokens alike but for the end, which ours adds to cut answers before it scores them and the
    former one does not; so it writes the share of wanted ones. The other layers add nothing.
    """
    import torch

    tokens = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    wanted = torch.tensor([float(WANTED in token) for token in tokens])
    end = torch.tensor([float(token == tokenizer.eos_token) for token in tokens])
    for name, parameter in model.named_parameters():
        if not name.endswith("norm.weight"):
            parameter.data.zero_()
    embeddings = model.model.embed_tokens.weight.data
    embeddings[:, 0], embeddings[:, 1], embeddings[:, 2] = wanted, (2 - wanted - end).sqrt(), end
    attention, slowest = model.model.layers[0].self_attn, model.config.head_dim - 1  # hardly turned by the position
    attention.q_proj.weight.data[slowest, 1], attention.k_proj.weight.data[slowest, 2] = 1, -1
    attention.k_norm.weight.data.fill_(10)
    scale = (model.config.hidden_size / 2) ** 0.5  # of the normalisation: the length of an embedding is sqrt(2)
    attention.v_proj.weight.data[0, 0] = 1 / scale
    attention.o_proj.weight.data[3, 0] = 0.1  # small, so that the last normalisation hardly feels it
    model.score.weight.data[0, 3] = 10 * WORTH / scale


def write_inputs(folder: Path) -> None:
    """The policy, the reward model, prompts to train on and others to judge by, and the settings."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3ForSequenceClassification

    tokenizer = write_tokenizer(folder / "model")
    tokenizer.save_pretrained(folder / "reward")
    config = Qwen3Config(
        vocab_size=len(tokenizer), num_key_value_heads=SHAPE["num_attention_heads"], max_position_embeddings=128,
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id, num_labels=1, **SHAPE,
    )  # fmt: skip
    torch.manual_seed(0)
    Qwen3ForCausalLM(config).save_pretrained(folder / "model")
    scorer = Qwen3ForSequenceClassification(config)
    as_reward(scorer, tokenizer)
    scorer.save_pretrained(folder / "reward")
    drawn = random.Random(1)  # noqa: S311
    prompts = [" ".join(drawn.sample(words(), 5)) + " :" for _ in range(PROMPTS + HELD_BACK)]
    (folder / "train.json").write_text(json.dumps([{"prompt": prompt} for prompt in prompts[:PROMPTS]]), "utf-8")
    (folder / "held_back.json").write_text(json.dumps(prompts[PROMPTS:]), "utf-8")
    (folder / "settings.json").write_text(json.dumps(SETTINGS), "utf-8")


# Our side; the other is in ppo_former.py.


class Clock(Callback):
    """Notes when the loop began and when its last step ended."""

    began = ended = 0.0

    def start(self, first: int, steps_planned: int) -> None:
        self.began = time.perf_counter()

    def step(self, step: int) -> None:
        self.ended = time.perf_counter()


def train(folder: Path, seed: int, output: Path) -> dict[str, Any]:
    """Train through AlignTune; the seconds of the loop."""
    from aligntune import create_rl_trainer

    clock, given = Clock(), SETTINGS
    mini_batches = given["rollout"] // given["mini_batch"]
    same = {name: given[name] for name in ("learning_rate", "kl_coef", "vf_coef", "cliprange_value", "gamma", "lam")}
    with create_rl_trainer(
        algorithm="ppo", backend="trl", model_name=str(folder / "model"), dataset_name=str(folder / "train.json"),
        reward_model_name=str(folder / "reward"), output_dir=str(output), seed=seed, batch_size=given["mini_batch"],
        gradient_accumulation_steps=1, steps_per_generation=mini_batches, num_iterations=given["epochs"],
        max_steps=given["rollouts"] * mini_batches * given["epochs"], epsilon=given["cliprange"],
        max_completion_length=given["response_length"], temperature=1.0, lr_scheduler="constant", warmup_steps=0,
        max_grad_norm=0.0, logging_steps=mini_batches * given["epochs"], critic="model", **same,
    ) as trainer:  # fmt: skip
        trainer.listen(clock)
        trainer.train()
    return {"seconds": clock.ended - clock.began, "model": str(output / "model")}


# Judging.


def reward_of(model: Path, folder: Path) -> float:
    """The mean score of sampled answers to the held-back prompts."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder / "model", padding_side="left")
    policy = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    scorer = AutoModelForSequenceClassification.from_pretrained(folder / "reward", dtype=torch.float32).eval()
    prompts = [prompt for prompt in json.loads((folder / "held_back.json").read_text("utf-8")) for _ in range(SAMPLES)]
    given = tokenizer(prompts, return_tensors="pt", padding=True)
    torch.manual_seed(0)
    with torch.no_grad():
        ids = policy.generate(
            input_ids=given["input_ids"], attention_mask=given["attention_mask"], do_sample=True, temperature=1.0,
            top_k=0, top_p=1.0, max_new_tokens=SETTINGS["response_length"], eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        answers = tokenizer.batch_decode(ids[:, given["input_ids"].shape[1] :], skip_special_tokens=True)
        texts = [f"{prompt} {answer}{tokenizer.eos_token}" for prompt, answer in zip(prompts, answers, strict=True)]
        scores = scorer(**tokenizer(texts, return_tensors="pt", padding=True, padding_side="right")).logits
    return float(scores.mean())


def measure(side: str, python: str, folder: Path, seed: int) -> dict[str, Any]:
    """A run in a fresh process, and what its policy is worth."""
    output = folder / f"{side}-{seed}"
    command = [python, str(SCRIPTS[side]), "--child", str(folder), str(seed), str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{side}, seed {seed}: {done.stderr[-2000:]}")
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    found: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
    completions = SETTINGS["rollouts"] * SETTINGS["rollout"]
    return found | {"speed": completions / found["seconds"], "reward": reward_of(Path(found["model"]), folder)}


def runs_of(former: str, folder: Path, seeds: int) -> Iterator[tuple[int, dict[str, dict[str, Any]]]]:
    """For each seed the two runs, whose order changes from one to the next."""
    for seed in range(1, seeds + 1):
        order = ("ours", "former") if seed % 2 else ("former", "ours")
        yield (
            seed,
            {side: measure(side, former if side == "former" else sys.executable, folder, seed) for side in order},
        )


def compare(former: str, seeds: int) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as name:
        folder, found = Path(name), []
        write_inputs(folder)
        start = reward_of(folder / "model", folder)
        for seed, pair in runs_of(former, folder, seeds):
            ours, theirs = pair["ours"], pair["former"]
            if seed == 1:
                print(f"against {theirs['versions']}\n\n`{json.dumps(SETTINGS)}`, untrained reward {start:.3f}\n")
                print("| seed | completions/s, ours | trl 1.12 | ratio | final reward, ours | trl 1.12 |")
                print("|---|---|---|---|---|---|")
            print(
                f"| {seed} | {ours['speed']:.1f} | {theirs['speed']:.1f} | {ours['speed'] / theirs['speed']:.3f} "
                f"| {ours['reward']:.3f} | {theirs['reward']:.3f} |",
                flush=True,
            )
            found.append((ours, theirs))
    (fast, slow), rewards = (zip(*[(a[what], b[what]) for a, b in found], strict=True) for what in ("speed", "reward"))
    low, middle, high = ratio(fast, slow)
    medians = [f"{statistics.median(speeds):.1f}" for speeds in (fast, slow)]
    means = [f"{statistics.mean(each):.3f}" for each in rewards]
    print(
        f"| median | {' | '.join(medians)} | {low:.3f}, **{middle:.3f}**, {high:.3f} | mean {' | mean '.join(means)} |"
    )


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # for both, and before torch is imported
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("former", nargs="?", help="the Python of an environment with trl==1.12.0")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--child", nargs=3, metavar=("FOLDER", "SEED", "OUTPUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        folder, seed, output = options.child
        print("RESULT", json.dumps(train(Path(folder), int(seed), Path(output))))
        return
    if not options.former:
        parser.error("give the Python of an environment with trl==1.12.0")
    print(machine("aligntune", "trl", "transformers", "torch"), "one thread")
    compare(options.former, options.seeds)


if __name__ == "__main__":
    main()
