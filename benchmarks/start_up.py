"""How long light commands take, against `trl --help` in the same environment: whole processes, alternating pairs.

And how long the installed backends take to say whether they are available, in a process that has asked once before.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

from pairs import alternate, machine, ratio

from aligntune_core.environment import detect
from aligntune_core.installed import default_registry
from aligntune_core.testing.fake_backend import write_fake_model

SCRIPTS = Path(sysconfig.get_path("scripts"))


def wall(command: list[str]) -> float:
    """Seconds of one whole process, its output read and dropped."""
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def settings_file(folder: Path) -> Path:
    """A complete configuration with a model folder and a data file."""
    write_fake_model(folder / "model")
    (folder / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 8, "utf-8")
    path = folder / "run.yaml"
    path.write_text(
        f"model_name: {folder / 'model'}\ndataset_name: {folder / 'rows.jsonl'}\nlearning_rate: 1e-4\n", "utf-8"
    )
    return path


def print_verdicts(times: int = 100) -> None:
    """Seconds that all installed backends together take for their verdicts on this machine."""
    registry, found = default_registry(), []
    for _ in range(times + 1):
        environment, start = detect(), time.perf_counter()
        for backend in registry:
            backend.is_available(environment)
        found.append(time.perf_counter() - start)
    first, warm = found[0], sorted(found[1:])
    names = ", ".join(backend.name for backend in registry)
    print(f"\nis_available of {names}: first {first * 1e3:.1f} ms, then {statistics.median(warm) * 1e3:.2f} ms")
    print(f"(median of {times}; greatest {warm[-1] * 1e3:.2f} ms)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15)
    pairs = parser.parse_args().pairs
    print(machine("aligntune", "trl"))
    print(f"| command | s | trl --help, s | ratio: least, median, greatest of {pairs} pairs |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        config = settings_file(Path(folder))
        for arguments in (["--help"], ["list-backends"], ["matrix"], ["validate", str(config)]):
            ours = [str(SCRIPTS / "aligntune"), *arguments]
            theirs = [str(SCRIPTS / "trl"), "--help"]
            a, b = alternate(lambda ours=ours: wall(ours), lambda theirs=theirs: wall(theirs), pairs)
            low, middle, high = ratio(a, b)
            name = f"aligntune {arguments[0]}"
            print(
                f"| `{name}` | {statistics.median(a):.3f} | {statistics.median(b):.3f} "
                f"| {low:.2f}, **{middle:.2f}**, {high:.2f} |"
            )
            sys.stdout.flush()
    print_verdicts()


if __name__ == "__main__":
    main()
