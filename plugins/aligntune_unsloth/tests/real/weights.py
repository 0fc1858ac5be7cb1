"""Train SFT, DPO, GRPO and PPO by the TRL backend in this process, after something else was done in it; print hashes.

    python weights.py MODEL FOLDER [nothing|listed|diagnosed|used]

The last line is a mapping of algorithms to the SHA-256 of their final weights. Without Unsloth installed it gives what
the weights must be.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from aligntune import get_backend_status, get_trainer, list_backends

PROMPTS = [f"What is {n} + 1? " for n in range(16)]
ROWS: dict[str, list[dict[str, str]]] = {
    "sft": [{"prompt": prompt, "completion": str(n + 1)} for n, prompt in enumerate(PROMPTS)],
    "dpo": [{"prompt": prompt, "chosen": str(n + 1), "rejected": "no"} for n, prompt in enumerate(PROMPTS)],
    "grpo": [{"prompt": prompt} for prompt in PROMPTS],
    "ppo": [{"prompt": prompt} for prompt in PROMPTS],
}
REWARD = f"{Path(__file__).with_name('reward.py')}:variety"
ROLLOUT: dict[str, Any] = {"reward_functions": [REWARD], "max_completion_length": 8, "batch_size": 8}
EXTRA: dict[str, dict[str, Any]] = {"grpo": ROLLOUT | {"num_generations": 4}, "ppo": ROLLOUT}


def train(algorithm: str, backend: str, model: str, folder: Path, **more: Any) -> Path:
    """A short run; gives its folder."""
    settings: dict[str, Any] = {"max_steps": 3, "learning_rate": 1e-3, "gradient_accumulation_steps": 1}
    rows = ROWS.get(algorithm, ROWS["grpo"])
    given = settings | EXTRA.get(algorithm, ROLLOUT if algorithm in ("dapo", "dr_grpo") else {}) | more
    with get_trainer(
        algorithm, backend, model_name=model, train_dataset=rows, output_dir=str(folder), **given
    ) as trainer:
        trainer.listen()
        trainer.train()
    return folder


def do(what: str, model: str, folder: Path) -> None:
    """What comes before in this process."""
    if what == "listed":
        list_backends()
        get_backend_status()
    if what == "diagnosed":
        from aligntune_core.cli.diagnose import report

        report(deep=True)
    if what == "used":
        train("sft", "unsloth", model, folder / "unsloth", use_peft=True)


def main(model: str, folder: str, before: str = "nothing") -> None:
    place = Path(folder)
    do(before, model, place)
    hashes = {}
    for algorithm in ROWS:
        weights = train(algorithm, "trl", model, place / algorithm) / "model" / "model.safetensors"
        hashes[algorithm] = hashlib.sha256(weights.read_bytes()).hexdigest()
    print(json.dumps(hashes))


if __name__ == "__main__":
    main(*sys.argv[1:])
