"""Rows of which a model that labels reads nothing: they are left out by number, and a run of such rows is refused."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from aligntune_core import ConfigError, DataError
from aligntune_core.errors import numbered

log = logging.getLogger("aligntune")


def own_room(tokenizer: Any, longest: int) -> int:
    """How many tokens the tokenizer puts around a text.

    Args:
        longest: tokens of a row at most.

    Raises:
        ConfigError: there is no room for another.
    """
    own = len(tokenizer("").input_ids)
    if longest > own:
        return own
    problem = f"the tokenizer puts {own} tokens around a text, and none of its own is read"
    raise ConfigError(problem, f"set max_seq_length: {own + 1}, or more", field="max_seq_length", value=longest)


def only_read(done: Any, read: Sequence[Any], field: str, what: str) -> Any:
    """The rows of a `Dataset` of which something is read; the others are told.

    Args:
        done: the rows.
        read: for each of them, whether.
        field: the setting that they come from.
        what: they lack.

    Raises:
        DataError: nothing is read of any.
    """
    without = [number for number, found in enumerate(read, 1) if not found]
    if len(without) == len(done):
        raise DataError(f"no row has {what}", f"give rows with {what}", field=field)
    if not without:
        return done
    text = "%s: %d of %d rows are left out, they have no %s: %s"
    log.warning(text, field, len(without), len(done), what, numbered(without))
    return done.select([at for at, found in enumerate(read) if found])
