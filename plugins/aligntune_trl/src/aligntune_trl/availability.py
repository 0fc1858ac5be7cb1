"""Whether TRL can train here, judged from versions and devices alone."""

from __future__ import annotations

from aligntune_core import Availability, Environment

NEEDED = ("torch", "transformers", "trl", "datasets", "peft", "accelerate")
REINSTALL = "pip install -U 'aligntune[trl]'"


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("+")[0].split(".")[:2] if part.isdigit())


def judge(environment: Environment) -> Availability:
    """The verdict on an environment; TRL 1.15's fused head runs on a GPU with Triton only."""
    missing = [name for name in NEEDED if name not in environment.packages]
    if missing:
        return Availability(False, f"{', '.join(missing)} not installed", REINSTALL)
    trl = environment.packages["trl"]
    if not (1, 14) <= _version(trl) < (1, 17):
        return Availability(False, f"trl {trl} is outside the tested range 1.14.2 to 1.16", REINSTALL)
    if _version(trl) == (1, 15) and not environment.gpus:
        return Availability(False, f"trl {trl} cannot train without a GPU", "pip install 'trl>=1.16,<1.17'")
    if _version(environment.packages["transformers"]) < (5, 3):
        found = environment.packages["transformers"]
        return Availability(False, f"transformers {found} is older than 5.3", REINSTALL)
    return Availability(True)
