"""Uploading a model folder with its card, in one commit, through the hub's own library."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from aligntune_core.errors import ConfigError, gist
from aligntune_core.runs.card import Card

README, ADAPTER = "README.md", "adapter_config.json"
_BASE = "base_model_name_or_path"

log = logging.getLogger("aligntune")


def upload(repo_id: str, folder: Path, card: Card, *, private: bool) -> str:
    """Create the repository where there is none, and commit the folder's files with the card; returns its address.

    Args:
        repo_id: `name` or `owner/name`.
        card: of the model; an adapter's base that is local is named as in it, without its folders, and that is told.
        private: one that is there already and public is refused.

    Raises:
        ConfigError: huggingface_hub is missing, the name is wrong, or the hub refuses it.
    """
    try:
        from huggingface_hub import CommitOperationAdd, HfApi
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
    except ImportError as error:
        problem, remedy = "uploading needs huggingface_hub", "pip install huggingface_hub"
        raise ConfigError(problem, remedy, field="repo_id", value=repo_id) from error
    files: dict[str, str | bytes] = {
        path.name: str(path) for path in sorted(folder.iterdir()) if path.is_file() and path.name != README
    }
    if ADAPTER in files:
        files[ADAPTER] = _without_place(folder / ADAPTER, card)
    operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=path) for name, path in files.items()]
    operations.append(CommitOperationAdd(path_in_repo=README, path_or_fileobj=card.text().encode()))
    api = HfApi()
    try:
        address = api.create_repo(repo_id, private=private, exist_ok=True)
        _check_private(api, address.repo_id, private=private)
        api.create_commit(address.repo_id, operations, commit_message="Upload a model of AlignTune")
    except HFValidationError as error:
        remedy = "a hub name is 'name' or 'owner/name'"
        raise ConfigError(
            f"is no name of a repository: {gist(error)}", remedy, field="repo_id", value=repo_id
        ) from error
    except OfflineModeIsEnabled as error:
        remedy = "unset HF_HUB_OFFLINE"
        raise ConfigError("the hub is switched off", remedy, field="repo_id", value=repo_id) from error
    except HfHubHTTPError as error:
        remedy = "log in with 'hf auth login', as one who may write there"
        raise ConfigError(f"the hub refuses it: {gist(error)}", remedy, field="repo_id", value=repo_id) from error
    except ConfigError:
        raise
    except Exception as error:  # whatever the library's client raises where there is no connection
        problem = f"the hub cannot be reached: {gist(error)}"
        raise ConfigError(problem, "try again once there is a connection", field="repo_id", value=repo_id) from error
    return str(address)


def _without_place(path: Path, card: Card) -> bytes:
    """An adapter's settings as they may be read by others: where its base lies on this machine is not told."""
    content = path.read_bytes()
    found = json.loads(content)
    base = found.get(_BASE)
    if not base or card.hub_base() == base:
        return content
    found[_BASE] = card.base_name()
    log.warning("the adapter's base is local, and uploaded as '%s' without its folder: say where it is", found[_BASE])
    return json.dumps(found, indent=2, sort_keys=True).encode()


def _check_private(api: Any, repo_id: str, *, private: bool) -> None:
    """Refuse to publish what was meant to be private.

    Raises:
        ConfigError: the repository was there before, and is public.
    """
    if private and api.model_info(repo_id).private is False:
        remedy = "give another name, or private=False"
        raise ConfigError("this repository is there already, and is public", remedy, field="repo_id", value=repo_id)
