"""What the driver lets torch do, told by a child process: finding it out here would open the GPU, and import torch.

The child runs this very file, which therefore imports nothing of ours.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from dataclasses import dataclass
from functools import cache

SECONDS = 25.0
"""Within the time that core leaves a hook; where torch has not been imported by then, nothing is known."""


@dataclass(frozen=True, slots=True)
class Driver:
    """What torch says.

    Attributes:
        cuda: the CUDA version that torch was built for; None: it is another build.
        problem: why it cannot compute on the GPU; empty where it can.
    """

    cuda: str | None
    problem: str


def driver() -> Driver | None:
    """What torch can do with the GPUs that this process may see, asked once; None where that cannot be told."""
    return _driver(os.environ.get("CUDA_VISIBLE_DEVICES"))


@cache
def _driver(visible: str | None) -> Driver | None:
    try:
        done = subprocess.run([sys.executable, "-P", __file__], capture_output=True, text=True, timeout=SECONDS)
        return Driver(**json.loads(done.stdout.splitlines()[-1]))
    except (OSError, subprocess.SubprocessError, ValueError, LookupError, TypeError):
        return None  # building the trainer will tell more


def _asked() -> dict[str, str | None]:
    """In the child: one sum on the GPU."""
    import torch

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    problem = "" if usable else next((str(warning.message) for warning in said), "torch sees none")
    if usable:
        try:
            torch.ones(2, device="cuda").sum().item()
        except RuntimeError as error:  # a build that lacks the card's kernels, or no memory left
            problem = str(error)
    return {"cuda": torch.version.cuda, "problem": (problem.splitlines() or [""])[0]}


if __name__ == "__main__":
    print(json.dumps(_asked()))
