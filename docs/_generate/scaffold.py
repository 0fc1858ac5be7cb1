"""The templates of `aligntune plugin new`: the example backend, without its own algorithm and with a name to fill in.

So the code that authors start from is code that is linted, typed and tested here, and stands once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/aligntune_torch"
TEMPLATES = "aligntune_core/templates/backend"

Change = tuple[str, str]
NAMES: tuple[Change, ...] = (("aligntune_torch", "aligntune_${name}"), ("aligntune-torch", "aligntune-${distribution}"))
OF_FILE: Mapping[str, tuple[Change, ...]] = {
    "pyproject.toml": (
        ('description = "A backend of AlignTune in plain PyTorch: an example to copy"', 'description = "${title}"'),
        ('authors = [{ name = "AlignTune contributors" }]', 'authors = [{ name = "Your name" }]'),
        ('torch = "aligntune_${name}.plugin"', '${name} = "aligntune_${name}.plugin"'),
        ('backend="torch"', 'backend="${name}"'),
    ),
    "src/aligntune_torch/__init__.py": (),
    "src/aligntune_torch/plugin.py": (
        ("from aligntune_${name}.neftune import neftune_support\n", ""),
        (
            '    sft = AlgorithmSupport(algorithm="sft", cells=CELLS, settings=SETTINGS)\n'
            "    return [sft, neftune_support(sft)]\n",
            '    return [AlgorithmSupport(algorithm="sft", cells=CELLS, settings=SETTINGS)]\n',
        ),
        (
            '    if request.algorithm == "neftune":\n'
            "        from aligntune_${name}.neftune_trainer import NeftuneTrainer\n\n"
            "        return NeftuneTrainer(request)\n",
            "",
        ),
    ),
    "src/aligntune_torch/checkpoint.py": (),
    "src/aligntune_torch/model.py": (),
    "src/aligntune_torch/preview.py": (),
    "src/aligntune_torch/rows.py": (),
    "src/aligntune_torch/tiny.py": (),
    "src/aligntune_torch/trainer.py": (),
    "tests/conftest.py": (('"torch"', '"${name}"'),),
    "tests/test_conformance.py": (("TestTorch", "TestMine"), ('"torch"', '"${name}"')),
}
"""The files that a new backend gets, and what is changed in them beside the names; each change must find its text."""


def template(source: str) -> str:
    """A file of the example as a template.

    Raises:
        ValueError: a change does not find its text, or the example has come in.
    """
    text = (EXAMPLE / source).read_text("utf-8").replace("$", "$$")
    for old, new in NAMES:
        text = text.replace(old, new)
    for old, new in OF_FILE[source]:
        if old not in text:
            raise ValueError(f"{source} has no longer: {old}")
        text = text.replace(old, new)
    if re.search("neftune", text, re.IGNORECASE):
        raise ValueError(f"{source} speaks of NEFTune")
    return text


def files() -> dict[str, Callable[[], str]]:
    """The templates' paths, each with what makes its text."""
    where = {source: source.replace("src/aligntune_torch/", "package/") for source in OF_FILE}
    return {f"{TEMPLATES}/{path}.tmpl": lambda source=source: template(source) for source, path in where.items()}
