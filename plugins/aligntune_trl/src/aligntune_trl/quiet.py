"""Keeping the libraries quiet: no telemetry, no chatter on the terminal. Whoever turned something on keeps it."""

from __future__ import annotations

import logging
import os

CHATTY = ("bitsandbytes", "torch.utils._pytree", "torch.utils.flop_counter", "torchao")
"""Loggers that warn at import of optional kernels, or of what other libraries do with them."""


class _Terminal(logging.Filter):
    """Let only errors through to the terminal; `log.txt` hears everything."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR


def hush() -> None:
    """Turn telemetry off, and what is said at import; the hooks call it before they import the libraries."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    import huggingface_hub.constants as hub

    if os.environ["HF_HUB_DISABLE_TELEMETRY"].upper() in ("1", "ON", "YES", "TRUE"):
        hub.HF_HUB_DISABLE_TELEMETRY = True  # the constant was read when something else imported the library


def hush_handlers() -> None:
    """The libraries' own handlers write to standard error; what is no error goes to `log.txt` alone."""
    from datasets.utils.logging import disable_progress_bar
    from transformers.utils import logging as transformers_logging

    disable_progress_bar()
    transformers_logging.disable_progress_bar()
    transformers_logging.enable_propagation()
    for handler in logging.getLogger("transformers").handlers:
        if type(handler) is logging.StreamHandler and not any(isinstance(f, _Terminal) for f in handler.filters):
            handler.addFilter(_Terminal())  # the library's own one; what others have put there is theirs
