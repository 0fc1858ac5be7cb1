"""Reading a settings file strictly: no tags, no aliases, no key twice, YAML 1.2 numbers and booleans."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from aligntune_core.errors import ConfigError, kind_of

LARGEST_FILE = 1_000_000


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without YAML 1.1's surprises (1:30 is not 90, 1e-4 is a number, no is a word)."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own shape

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases are not used here", problem_mark=mark)
        return super().compose_node(parent, index)


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), list(_first))
_Loader.add_constructor(
    "tag:yaml.org,2002:int",
    lambda loader, node: int(loader.construct_scalar(node)),  # type: ignore[arg-type]
)

PLAIN = "write plain 'name: value' lines, such as 'model_name: …'"


def _fail(path: Path, problem: str, remedy: str) -> ConfigError:
    return ConfigError(problem, remedy, field="config", value=str(path))


def _twice(name: str, path: Path, lines: str = "") -> ConfigError:
    return ConfigError(f"is given twice{lines} ({path.name})", "keep one", field=name)


def _lines(node: yaml.Node, path: Path) -> dict[str, int]:
    """The line of each key of a mapping; a key given twice is refused, at any depth."""
    lines: dict[str, int] = {}
    for entry in node.value if isinstance(node, yaml.CollectionNode) else ():
        if isinstance(node, yaml.SequenceNode):
            _lines(entry, path)
            continue
        key, value = entry
        name, line = str(key.value), key.start_mark.line + 1
        if name in lines:
            raise _twice(name, path, f", in lines {lines[name]} and {line}")
        lines[name] = line
        _lines(value, path)
    return lines


_PLAINER = (
    (re.compile(r"found character '\\t' that cannot start any token"), "there is a tab", "indent with spaces"),
    (re.compile(r"could not determine a constructor for the tag '(?:\S*:)?(.*)'"), r"the tag \1 is not read", PLAIN),
    (re.compile(r".*'<stream end>'"), "a bracket or a quote is not closed", "close it"),
    (re.compile(r".*found unexpected end of stream"), "a bracket or a quote is not closed", "close it"),
    (re.compile(r"but found another document"), "a second document begins", "keep one"),
)
"""What PyYAML says, what we say, and the remedy."""


def _marked(error: yaml.MarkedYAMLError, path: Path) -> ConfigError:
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}: " if mark else ""
    said = str(error.problem or "is not YAML")
    for pattern, problem, remedy in _PLAINER:
        if match := pattern.fullmatch(said):
            return _fail(path, where + match.expand(problem), remedy)
    return _fail(path, where + said, PLAIN)


def _parse_yaml(text: str, path: Path) -> tuple[Any, dict[str, int]]:
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        lines = _lines(node, path) if node is not None else {}
        return (loader.construct_document(node) if node is not None else None), lines
    except ConfigError:
        raise
    except yaml.MarkedYAMLError as error:
        raise _marked(error, path) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise _fail(path, f"line {line}: there is a control character, {error.character:#04x}", "remove it") from error
    except RecursionError as error:
        raise _fail(path, "is nested too deeply", PLAIN) from error
    except (yaml.YAMLError, ValueError) as error:
        raise _fail(path, f"is not YAML: {error}", PLAIN) from error


def _parse_json(text: str, path: Path) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            raise _twice(next(n for n in names if names.count(n) > 1), path)
        return found

    try:
        return json.loads(text, object_pairs_hook=once)
    except ConfigError:
        raise
    except json.JSONDecodeError as error:
        raise _fail(path, f"line {error.lineno}, column {error.colno}: {error.msg}", "mend the JSON") from error
    except RecursionError as error:
        raise _fail(path, "is nested too deeply", "mend the JSON") from error
    except ValueError as error:
        raise _fail(path, f"is not JSON: {error}", "mend the JSON") from error


def read_value(text: str) -> Any:
    """A value that is given as text: JSON, or YAML by the rules of a settings file.

    Raises:
        ConfigError: it is neither.
    """
    place = Path("the value")
    try:
        return _parse_json(text, place)
    except ConfigError:
        return _parse_yaml(text, place)[0]


def _text_of(path: Path) -> str:
    try:
        if path.is_dir():
            raise _fail(path, "is a folder", "give the path of a YAML file")
        if path.stat().st_size > LARGEST_FILE:
            problem = f"{path.stat().st_size:,} bytes are too many for a settings file"
            raise _fail(path, problem, "give a YAML file; a file of rows is named by dataset_name")
        raw = path.read_bytes()
        if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise _fail(path, "is UTF-16", "save the file as UTF-8")
        return raw.decode("utf-8-sig")
    except ConfigError:
        raise
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        problem = f"line {line}: byte {error.object[error.start]:#04x} is not UTF-8"
        raise _fail(path, problem, "give a text file, saved as UTF-8") from error
    except (OSError, ValueError) as error:
        raise _fail(path, getattr(error, "strerror", None) or str(error), "give the path of a YAML file") from error


def read_settings(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The settings in a YAML or JSON file, and the line of each.

    Raises:
        ConfigError: no such file, not UTF-8, not YAML, not a mapping, a key twice.
    """
    if path.suffix.lower() in (".jsonl", ".csv", ".parquet"):
        raise _fail(path, "is a file of rows, not of settings", "name it by dataset_name")
    text = _text_of(path)
    settings, lines = (_parse_json(text, path), {}) if path.suffix.lower() == ".json" else _parse_yaml(text, path)
    if settings in (None, {}, [], ""):
        raise _fail(path, "is empty", PLAIN)
    if not isinstance(settings, dict):
        raise _fail(path, f"holds {kind_of(settings)}, not settings", PLAIN)
    return {str(key): value for key, value in settings.items()}, lines
