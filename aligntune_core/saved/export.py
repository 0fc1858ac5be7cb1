"""Writing a saved model to a folder of its own: as it is, or with its adapter merged; whole, or not at all."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aligntune_core.errors import AlignTuneError, ConfigError, StorageError
from aligntune_core.runs.card import Card
from aligntune_core.runs.storage import is_replaceable, is_storage_error, storage_error, sync_folder, write_text
from aligntune_core.saved.find import Saved, find_saved
from aligntune_core.saved.opening import open_saved
from aligntune_core.saved_values import MergeReport
from aligntune_core.selector import AUTO

README = "README.md"
_KINDS = frozenset({".safetensors", ".json", ".jinja", ".model", ".txt", ".py", ".md"})
"""The files that a model is made of; what a checkpoint has beside them goes on with the run."""
_OF_RUN = frozenset({"trainer_state.json", "manifest.json"})


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: the folder, whether it is an adapter, and how it was merged, where it was."""

    folder: Path
    adapter: bool
    merged: MergeReport | None = None


def default_output(saved: Saved, *, merge: bool) -> Path:
    """A folder beside the run's or the model's."""
    place = saved.run_dir or saved.folder or Path(saved.name)
    place = place.absolute() if place.name not in ("", "..") else place.resolve()
    checkpoint = f"-{Path(saved.model).name}" if saved.step is not None else ""
    return place.with_name(f"{place.name}{checkpoint}-{'merged' if merge else 'exported'}")


def export(
    saved: Saved,
    output: Path,
    *,
    merge: bool = False,
    dtype: str | None = None,
    overwrite: bool = False,
    backend: str = AUTO,
    trust: bool = False,
) -> Exported:
    """Write the model to `output`, with a model card.

    Args:
        saved: what `find_saved` gave.
        output: the folder; with `overwrite` a model that is there is replaced, anything else never.
        merge: merge an adapter into its base; a full model has none, and is copied.
        dtype: of the merged weights; None: as the base is stored.
        overwrite: see `output`.
        backend, trust: as of `open_saved`.

    Raises:
        ConfigError: the folder is taken, or the merged model computes something else.
        StorageError: it cannot be written.
    """
    _check_place(saved, output, overwrite=overwrite)
    adapter = saved.head.base is not None
    with _placed(output) as part:
        report = None
        if merge and (adapter or dtype):
            report = _merge(saved, part, dtype, backend, trust=trust)
        else:
            _copy(saved, part)
        _write_card(saved, part, adapter=adapter and report is None, merged=report if adapter else None)
        find_saved(str(part), trust_remote_code=True)  # it opens as any model does
    return Exported(output, adapter and report is None, report)


def _merge(saved: Saved, part: Path, dtype: str | None, backend: str, *, trust: bool) -> MergeReport:
    with contextlib.closing(open_saved(saved, backend=backend, trust=trust)) as model:
        return model.merge(part, dtype)


def _copy(saved: Saved, part: Path) -> None:
    folder = saved.folder
    if folder is None:
        remedy = f"hf download {saved.model}"
        raise ConfigError("it is on the hub, and there is nothing to copy here", remedy, field="model_name")
    part.mkdir(parents=True)
    for file in sorted(folder.iterdir()):
        if file.is_file() and file.suffix in _KINDS and file.name not in _OF_RUN:
            shutil.copyfile(file, part / file.name)


def _write_card(saved: Saved, part: Path, *, adapter: bool, merged: MergeReport | None) -> None:
    """A card of ours; a model that is copied and that no run made keeps its own."""
    if saved.run_dir is not None:
        card = Card.of(saved.run_dir, base=saved.head.base, adapter=adapter, merged=merged, step=saved.step)
    elif merged is not None:
        card = Card(saved.name, base=saved.head.base, merged=merged)
    else:
        return
    write_text(part / README, card.text())


def _check_place(saved: Saved, output: Path, *, overwrite: bool) -> None:
    """Refuse a folder that is not ours to replace.

    Raises:
        ConfigError: it is a file, holds something else than a model, or what is exported.
    """

    def refused(problem: str, remedy: str = "give a folder that does not exist yet") -> ConfigError:
        return ConfigError(problem, remedy, field="output", value=str(output))

    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise refused("is no folder")
    target, here = output.resolve(), Path.cwd()
    if target == here or target in here.parents:
        raise refused("is the folder that you are in, and would be replaced")
    used = [Path(name).expanduser() for name in (saved.model, saved.head.base) if name]
    used += [saved.run_dir] if saved.run_dir else []
    for path in (p.resolve() for p in used if p.exists()):
        if target == path or target in path.parents:
            raise refused(f"{path} would be replaced, which is exported")
    if not is_replaceable(output):
        raise refused("holds something else than a saved model")
    if output.exists() and any(output.iterdir()) and not overwrite:
        raise refused("holds a model already", "give --overwrite to replace it, or another folder")


@contextlib.contextmanager
def _placed(output: Path) -> Iterator[Path]:
    """A path to write to; moved to `output` at the end, and removed where anything fails or is stopped."""
    target = output.resolve()  # a name such as a/.. has none of its own
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    missing = [folder for folder in target.parents if not folder.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield part
        if target.exists():
            shutil.rmtree(target)
        part.replace(target)
        sync_folder(target.parent)
    except BaseException as error:
        shutil.rmtree(part, ignore_errors=True)
        for folder in missing:
            with contextlib.suppress(OSError):
                folder.rmdir()
        if is_storage_error(error) and not isinstance(error, AlignTuneError):
            raise _unwritable(output, error) from error
        raise


def _unwritable(output: Path, error: BaseException) -> StorageError:
    told = storage_error(output, error)
    return StorageError(told.problem, "free space or give another --output", field="output", value=str(output))
