"""Bad input as data: a YAML file of cases, and the one way in which a case is tried.

A document of such a file is `{"torch": bool, "cases": [case, …]}`, and under `shared` may hold what several cases
refer to; a case has these keys, of which it needs `id` and `says`:

    id        a sentence: what is wrong
    row       the number of the observation that it goes back to
    settings  for run.yaml, over model_name and dataset_name of a sound model and a sound file; null takes one out
    rows      the rows of rows.jsonl, a line of JSON each
    files     path → text, or one of {hex}, {text, encoding}, {repeat: [text, times]}, {link}, {folder},
              {copy: a folder}, {cut: bytes less}, {edit: keys of a JSON file}, or null to take it away
    earlier   a run that was there before, made by a backend that trains nothing: its settings, and
              `stops`: the step at which it breaks off
    after     files, as above, that are made once the earlier run is there
    fake      true where a backend that trains nothing goes on from here; or the names of several such, each with
              the algorithms that it claims, which are then the installed ones
    locked    a run folder that somebody else holds meanwhile
    argv      the command line; `train run.yaml` unless given
    call      keywords of `get_trainer`, instead of a command line
    env       environment variables
    exit      the exit code, 2 unless given
    says      the lines of error, in order, without `error: `; … stands for any text
    warns     parts of the lines that are no errors
    writes    true where the run goes on and writes
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

from aligntune_core.errors import AlignTuneError
from aligntune_core.runs.folder import LOCK
from aligntune_core.testing.fake_backend import FakeBackend, write_fake_model

LONGEST_LINE = 240
FORM = r"error: [\w -]+( = \S.*)?: \S.*; \S.*"
"""What every line of error looks like: `field = value: problem; remedy`."""
GOOD_ROWS = [{"prompt": f"What is {n} + 1? ", "completion": str(n + 1)} for n in range(8)]


def read_cases(folder: Path, document: int = 0) -> list[dict[str, Any]]:
    """The cases of one document of every YAML file in a folder that has so many."""
    files = [list(yaml.safe_load_all(path.read_text("utf-8"))) for path in sorted(folder.glob("*.yaml"))]
    return [case for documents in files for part in documents[document : document + 1] for case in part["cases"]]


def fakes(given: Any) -> dict[str, FakeBackend]:
    """The backends that a case's `fake` means, by name."""
    if not isinstance(given, Mapping):
        return {"fake": FakeBackend()}
    return {name: FakeBackend(tuple(algorithms)) for name, algorithms in given.items()}


def _content(given: Any, path: Path) -> bytes:
    if isinstance(given, str):
        return given.encode()
    if "hex" in given:
        return bytes.fromhex(given["hex"])
    if "repeat" in given:
        text, times = given["repeat"]
        return str(text).encode() * int(times)
    if "edit" in given:
        return json.dumps({**json.loads(path.read_text("utf-8")), **given["edit"]}).encode()
    if "cut" in given:
        return path.read_bytes()[: -given["cut"]]
    return str(given["text"]).encode(given["encoding"])


def make(folder: Path, name: str, given: Any) -> None:
    """Make, change or (None) take away one file of a case."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(given, Mapping) and given.get("folder"):
        path.mkdir()
    elif isinstance(given, Mapping) and "copy" in given:
        shutil.copytree(folder / given["copy"], path)
    elif isinstance(given, Mapping) and "link" in given:
        path.symlink_to(given["link"])
    elif given is None:
        path.unlink()
    else:
        path.write_bytes(_content(given, path))


def lay_out(case: Mapping[str, Any], folder: Path, model: Path | None = None) -> None:
    """Make the files of a case in an empty folder.

    Args:
        case: the case.
        folder: where it is tried.
        model: a sound model folder to copy to `model`; None: one that only core takes for a model.
    """
    if model is None:
        write_fake_model(folder / "model")
    else:
        shutil.copytree(model, folder / "model")
    rows = case.get("rows", GOOD_ROWS)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    settings = {"model_name": "model", "dataset_name": "rows.jsonl", **case.get("settings", {})}
    kept = {name: value for name, value in settings.items() if value is not None}
    (folder / "run.yaml").write_text(yaml.safe_dump(kept, sort_keys=False, allow_unicode=True), "utf-8")
    for name, given in case.get("files", {}).items():
        make(folder, name, given)


class _BrokenOffError(Exception):
    """Ends an earlier run in the middle."""


def run_earlier(case: Mapping[str, Any], folder: Path, use_registry: Callable[..., Any]) -> None:
    """Leave the run folder that a case starts from."""
    from aligntune_core.factory import get_trainer

    earlier = case["earlier"]

    def on_step(step: int) -> None:
        if step == earlier.get("stops"):
            raise _BrokenOffError

    use_registry(fake=FakeBackend(on_step=on_step))
    settings = {"model_name": "model", "dataset_name": "rows.jsonl", **earlier["settings"]}
    with get_trainer("sft", **settings) as trainer:
        trainer.listen()
        with contextlib.suppress(_BrokenOffError):
            trainer.train()
    for name, given in case.get("after", {}).items():
        make(folder, name, given)


@contextlib.contextmanager
def held(name: str | None, folder: Path) -> Iterator[None]:
    """Hold a run folder as a running process does."""
    with FileLock(folder / name / LOCK) if name else contextlib.nullcontext():
        yield


def picture(case: Mapping[str, Any], folder: Path) -> dict[str, bytes | str | None]:
    """All that a case must leave as it is: bytes of files, targets of links, None for folders.

    Where the run goes on, its own folder may change; nothing else ever may.
    """
    run = case["settings"]["output_dir"] if case.get("writes") else None
    found: dict[str, bytes | str | None] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name.split("/")[0] == run:
            continue
        found[name] = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else None
    return found


def _spelt_out(value: Any) -> Any:
    return str(value["repeat"][0]) * value["repeat"][1] if isinstance(value, Mapping) and "repeat" in value else value


def call(keywords: Mapping[str, Any]) -> int:
    """Try `get_trainer`; what it raises is printed as the command line prints it."""
    from aligntune_core.factory import get_trainer

    try:
        get_trainer(**{name: _spelt_out(value) for name, value in keywords.items()}).close()
    except AlignTuneError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return error.exit_code
    return 0


def _pattern(expected: str) -> str:
    return ".*".join(re.escape(part) for part in expected.split("…"))


def check_text(case: Mapping[str, Any], text: str) -> None:
    """Check what was printed against what a case says."""
    lines = text.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    expected = case["says"].splitlines()
    assert "Traceback" not in text, text  # noqa: S101 - this is a check for tests
    assert len(errors) == len(expected), text  # noqa: S101
    for line, wanted in zip(errors, expected, strict=True):
        assert len(line) <= LONGEST_LINE, f"{len(line)} characters: {line}"  # noqa: S101
        assert re.fullmatch(FORM, line), line  # noqa: S101
        assert re.fullmatch(f"error: {_pattern(wanted)}", line), f"{line}\nis not\n{wanted}"  # noqa: S101
    for part in case.get("warns", ()):
        assert any(part in line for line in lines if line not in errors), text  # noqa: S101
