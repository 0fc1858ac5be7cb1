"""Whose code an error came from: said on every error that leaves a plugin's code."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from aligntune_core.errors import AlignTuneError, PluginContractError, blame, first_line


@contextlib.contextmanager
def blaming(doing: str, who: str, broke: Callable[[str], PluginContractError]) -> Iterator[None]:
    """Around a plugin's code.

    Args:
        doing: the hook or method that is called.
        who: the plugin, with where it comes from.
        broke: makes the error for a broken promise.

    Raises:
        PluginContractError: it tried to end the process.
    """
    try:
        yield
    except (KeyboardInterrupt, AlignTuneError):
        raise
    except SystemExit as error:
        raise broke(f"{doing}() tried to end the process with {first_line(error) or 'None'}") from error
    except BaseException as error:
        blame(error, f"{doing}() of {who}")
        raise
