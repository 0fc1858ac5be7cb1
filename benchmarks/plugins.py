"""What installed plugins cost: loading 50 of them, and `aligntune --help` beside 200 that are never imported.

The first figure is the time of core alone, with the plugins' own modules imported before; each in a fresh process. The
second is a ratio of whole processes, in alternating pairs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from pairs import alternate, machine, ratio
from start_up import SCRIPTS, wall

from aligntune_core.testing.installed_plugin import write_plugin

LOADED, INSTALLED = 50, 200
MOST_MS, MOST_RATIO = 150, 2
HEALTHY = """
from aligntune_core import AlgorithmSupport, Availability, Support, hookimpl

@hookimpl
def provides_algorithms():
    cells = {("chat_completion", "causal_lm"): Support("full"), ("text_generation", "causal_lm"): Support("full")}
    return [AlgorithmSupport(algorithm=name, cells=cells, settings={"seed"}) for name in ("sft", "dpo")]

@hookimpl
def is_available(environment):
    return Availability(True)

@hookimpl
def build_trainer(request):
    raise NotImplementedError
"""
LOAD = f"""
import importlib, time
from aligntune_core.discovery import BACKENDS, entries
from aligntune_core.plugins import load_registry
for entry in entries(BACKENDS)[0]:
    if entry.name.startswith("p"):
        importlib.import_module(entry.value)
began = time.perf_counter()
registry = load_registry()
print(1000 * (time.perf_counter() - began))
assert len(registry.backends) == {LOADED}, registry.failures
"""


def install(folder: Path, count: int) -> Path:
    """So many healthy plugins in a folder, called p0, p1, …"""
    folder.mkdir()
    for number in range(count):
        write_plugin(folder, f"p{number}", HEALTHY)
    return folder


def loading(site: Path) -> float:
    """Milliseconds that core takes to find, check, register and describe the plugins."""
    allowed = ",".join(f"p{number}" for number in range(LOADED))
    environment = {**os.environ, "PYTHONPATH": str(site), "ALIGNTUNE_PLUGINS": allowed}
    done = subprocess.run([sys.executable, "-c", LOAD], env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def help_beside(site: Path) -> float:
    """Seconds of `aligntune --help`, a whole process, where these plugins are installed."""
    os.environ["PYTHONPATH"] = str(site)
    return wall([str(SCRIPTS / "aligntune"), "--help"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=15)
    pairs = parser.parse_args().pairs
    print(machine("aligntune", "pluggy"))
    with tempfile.TemporaryDirectory() as name:
        some, many = install(Path(name) / "some", LOADED), install(Path(name) / "many", INSTALLED)
        none = install(Path(name) / "none", 0)
        loading(some)  # the first writes the compiled modules
        times = sorted(loading(some) for _ in range(pairs))
        print("| what | least | median | greatest | target |\n|---|---|---|---|---|")
        print(
            f"| core's part of loading {LOADED} plugins, ms, {pairs} processes | {times[0]:.0f} "
            f"| **{statistics.median(times):.0f}** | {times[-1]:.0f} | {MOST_MS} |"
        )
        low, middle, high = ratio(*alternate(lambda: help_beside(many), lambda: help_beside(none), pairs))
        print(
            f"| `aligntune --help` beside {INSTALLED} plugins / none, {pairs} pairs | {low:.2f} "
            f"| **{middle:.2f}** | {high:.2f} | {MOST_RATIO} |"
        )


if __name__ == "__main__":
    main()
