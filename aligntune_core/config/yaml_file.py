"""Reading a settings file strictly: no tags, no aliases, no key twice, YAML 1.2 numbers and booleans."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from aligntune_core.errors import ConfigError

LARGEST_FILE = 1_000_000


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without YAML 1.1's surprises (1:30 is not 90, 1e-4 is a number, no is a word)."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own shape

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.MarkedYAMLError(problem="aliases are not used here", problem_mark=self.peek_event().start_mark)
        return super().compose_node(parent, index)


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), list(_first))


def _lines(node: yaml.MappingNode, path: Path) -> dict[str, int]:
    """The line of each top-level key; a key given twice is refused, at any depth."""
    lines: dict[str, int] = {}
    for key, value in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        if name in lines:
            raise ConfigError(f"{path}: is given twice, in lines {lines[name]} and {line}", "keep one", field=name)
        lines[name] = line
        if isinstance(value, yaml.MappingNode):
            _lines(value, path)
    return lines


def _parse_yaml(text: str, path: Path) -> tuple[Any, dict[str, int]]:
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        lines = _lines(node, path) if isinstance(node, yaml.MappingNode) else {}
        return (loader.construct_document(node) if node is not None else None), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        problem = (error.problem or "is not YAML").replace("\\t", "a tab")
        remedy = "indent with spaces" if "'\\t'" in str(error.problem) else "write plain 'name: value' lines"
        raise ConfigError(f"{where}: {problem}", remedy, field="config") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not YAML: {error}", "write plain 'name: value' lines", field="config") from error
    finally:
        loader.dispose()


def read_settings(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The settings in a YAML or JSON file, and the line of each.

    Raises:
        ConfigError: no such file, not UTF-8, not YAML, not a mapping, a key twice.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ConfigError("is too large for a settings file", "is this a data file?", field="config", value=str(path))
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        problem = f"byte {error.start} is not UTF-8"
        raise ConfigError(problem, "save the file as UTF-8", field="config", value=str(path)) from error
    except OSError as error:
        problem = error.strerror or str(error)
        raise ConfigError(problem, "give the path of a YAML file", field="config", value=str(path)) from error
    if path.suffix == ".json":
        try:
            settings, lines = json.loads(text), {}
        except ValueError as error:
            raise ConfigError(f"{path}: is not JSON: {error}", "mend the file", field="config") from error
    else:
        settings, lines = _parse_yaml(text, path)
    if not isinstance(settings, dict) or not settings:
        what = "is empty" if not settings else f"holds a {type(settings).__name__}, not settings"
        remedy = "write 'name: value' lines, such as 'model_name: …'"
        raise ConfigError(what, remedy, field="config", value=str(path))
    return {str(key): value for key, value in settings.items()}, lines
