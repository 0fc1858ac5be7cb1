"""A backend that describes itself in a process of its own: `python -m aligntune_core.testing.alone NAME RESULT SAID`.

RESULT is written as JSON; all that is printed meanwhile, by Python or below it, goes to the file SAID. The keys:

    failure   why the plugin does not load, or ""
    heavy     what was done → the training libraries that it imported
    changed   what it changed of the process
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from aligntune_core.discovery import BACKENDS, entries
from aligntune_core.environment import Device, Environment, detect
from aligntune_core.plugins import BackendRegistry, load_registry

HEAVY = (
    "torch", "transformers", "trl", "peft", "accelerate", "datasets", "unsloth", "tensorflow", "jax", "numpy", "pandas",
    "scipy", "sklearn", "bitsandbytes", "deepspeed", "vllm",
)  # fmt: skip
"""What takes a second to import, or changes the process; only hooks that load or write a model, or preview, may."""

GPU = Environment(devices=(Device("cuda", "a GPU", 80 * 2**30, (9, 0)), Device("cpu")), packages=detect().packages)


def _state() -> dict[str, object]:
    return {
        "the working directory": os.getcwd(),  # noqa: PTH109 - as a plugin's os.chdir leaves it
        "environment variables": dict(os.environ),
        "signal handlers": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)],
        "handlers or the level of the root logger": (list(logging.getLogger().handlers), logging.getLogger().level),
    }


class _Warnings(logging.Handler):
    """Keeps what core says of a plugin that it had to put in order."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def describe(name: str) -> dict[str, Any]:
    """Import a backend, ask what it trains and whether it can, and say what that did to this process."""
    seen = {module for module in HEAVY if module in sys.modules}
    heavy: dict[str, list[str]] = {}
    before, warnings = _state(), _Warnings()
    logger = logging.getLogger("aligntune")
    logger.addHandler(warnings)
    logger.propagate = False

    def watch(doing: str, act: Callable[[], Any]) -> Any:
        done = act()
        new = [module for module in HEAVY if module in sys.modules and module not in seen]
        heavy[doing] = heavy.get(doing, []) + new
        seen.update(new)
        return done

    failure = ""
    try:
        watch("its import", lambda: [entry.load() for entry in entries(BACKENDS)[0] if entry.name == name])
        registry: BackendRegistry = watch("provides_algorithms()", load_registry)
        for place in (detect(), Environment(), GPU) if name in registry else ():
            watch("is_available()", partial(registry.backends[name].is_available, place))
        if name not in registry:
            failure = registry.failures[name].reason if name in registry.failures else "no such backend is installed"
    except BaseException as error:  # noqa: BLE001 - whatever an import raises
        failure = f"{type(error).__name__}: {error}"
    after = _state()
    changed = [what for what in before if before[what] != after[what]]
    return {"failure": failure, "heavy": heavy, "changed": changed + warnings.texts}


def main(name: str, result: str, said: str) -> None:
    """Describe one backend, with the process's output in a file."""
    with Path(said).open("w") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        found = describe(name)
        sys.stdout.flush()
    Path(result).write_text(json.dumps(found), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
