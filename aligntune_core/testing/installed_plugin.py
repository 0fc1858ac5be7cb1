"""Plugins that are really installed: a module and its metadata in a folder that is put on the path."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from aligntune_core.discovery import BACKENDS

RANGE = ("aligntune>=0.1,<0.2",)


def write_plugin(
    folder: Path,
    name: str,
    code: str,
    *,
    group: str = BACKENDS,
    distribution: str | None = None,
    version: str = "1.0",
    requires: Sequence[str] = RANGE,
    module: str | None = None,
    attribute: str = "",
    entry_points: str | None = None,
) -> Path:
    """Install a plugin into a folder; a process that has it on PYTHONPATH has the plugin installed.

    Args:
        folder: where; it is made.
        name: the entry point's name, whatever it may be.
        code: the text of the module.
        group: the entry point's group.
        distribution: the distribution's name; default: `aligntune-` and the name.
        version, requires: what its metadata says.
        module: the module's name; default: the distribution's with `_` for `-`, and `_plugin`.
        attribute: of the module, where it is not itself the plugin.
        entry_points: the whole text of `entry_points.txt`, where it is to be another.

    Returns:
        The module's file.
    """
    distribution = distribution or f"aligntune-{name}"
    module = module or f"{distribution.replace('-', '_').replace('.', '_')}_plugin"
    path = folder / f"{module}.py"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(code, "utf-8")
    value = f"{module}:{attribute}" if attribute else module
    info = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir(exist_ok=True)
    lines = ["Metadata-Version: 2.1", f"Name: {distribution}", f"Version: {version}"]
    lines += [f"Requires-Dist: {text}" for text in requires]
    (info / "METADATA").write_text("\n".join(lines) + "\n", "utf-8")
    text = f"[{group}]\n{name} = {value}\n" if entry_points is None else entry_points
    (info / "entry_points.txt").write_text(text, "utf-8")
    (info / "RECORD").write_text(f"{path.name},,\n{info.name}/METADATA,,\n{info.name}/entry_points.txt,,\n", "utf-8")
    return path
