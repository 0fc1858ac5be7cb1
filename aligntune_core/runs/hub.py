"""Uploading a model folder with its card, in one commit, through the hub's own library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aligntune_core.errors import ConfigError, gist

README = "README.md"


def upload(repo_id: str, folder: Path, card: str, *, private: bool) -> str:
    """Create the repository where there is none, and commit the folder's files with the card; returns its address.

    Args:
        repo_id: `name` or `owner/name`.
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
    files = {path.name: str(path) for path in sorted(folder.iterdir()) if path.is_file() and path.name != README}
    operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=path) for name, path in files.items()]
    operations.append(CommitOperationAdd(path_in_repo=README, path_or_fileobj=card.encode()))
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


def _check_private(api: Any, repo_id: str, *, private: bool) -> None:
    """Refuse to publish what was meant to be private.

    Raises:
        ConfigError: the repository was there before, and is public.
    """
    if private and api.model_info(repo_id).private is False:
        remedy = "give another name, or private=False"
        raise ConfigError("this repository is there already, and is public", remedy, field="repo_id", value=repo_id)
