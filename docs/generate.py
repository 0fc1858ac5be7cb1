"""Writes every page, and every part of a page, that is made from the code.

    python docs/generate.py           write them
    python docs/generate.py --check   write nothing; exit 1 and name those that are stale

A part of a page stands between `<!-- generated: NAME -->` and `<!-- end: NAME -->`. The backends of this
repository must be installed (their light parts are enough; no training library is imported).
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from _generate import (
    algorithms,
    commands,
    errors,
    example,
    hooks,
    matrix,
    measured,
    presets,
    rewards,
    scaffold,
    settings,
    versions,
)

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"

FILES: Mapping[str, Callable[[], str]] = {
    "docs/reference/cli.md": commands.page,
    "docs/reference/configuration.md": settings.page,
    "docs/reference/algorithms.md": algorithms.page,
    "docs/reference/rewards.md": rewards.page,
    "docs/reference/hooks.md": hooks.page,
    "docs/reference/errors.md": errors.page,
    "docs/reference/support-matrix.md": matrix.page,
    "aligntune_core/config/typed.py": settings.typed_module,
    **scaffold.files(),
}
PARTS: Mapping[str, Callable[[], str]] = {
    "aliases": settings.aliases,
    "exit codes": errors.exit_codes,
    "versions": versions.part,
    "algorithms today": lambda: matrix.today("algorithm"),
    "model types today": lambda: matrix.today("model_type"),
    "example claims": example.claims,
    "example algorithm": example.algorithm,
    "presets": presets.settings,
    "rollout sizes": presets.sizes,
    "rewards": rewards.part,
    "backends measured": measured.part,
    "tasks today": lambda: matrix.today("task"),
}
_PART = re.compile(r"(<!-- generated: (?P<name>[\w ]+) -->\n).*?(<!-- end: (?P=name) -->)", re.DOTALL)


def filled(text: str) -> str:
    """A page with its generated parts made anew."""
    return _PART.sub(lambda found: f"{found[1]}\n{PARTS[found['name']]()}\n{found[3]}", text)


def wanted() -> Iterator[tuple[Path, str]]:
    """Each file that holds something generated, and what it should hold."""
    for name, make in FILES.items():
        yield ROOT / name, make()
    for path in sorted(DOCS.rglob("*.md")):
        if str(path.relative_to(ROOT)) not in FILES and _PART.search(text := path.read_text("utf-8")):
            yield path, filled(text)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Write the generated pages of the documentation.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if one is stale")
    check = parser.parse_args().check
    stale = [(path, text) for path, text in wanted() if not path.exists() or path.read_text("utf-8") != text]
    for path, text in stale:
        sys.stdout.write(f"{'stale' if check else 'written'}: {path.relative_to(ROOT)}\n")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
    if check and stale:
        sys.stdout.write("run: python docs/generate.py\n")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
