"""The names of `aligntune`, under the path that the user documents import them from."""

from aligntune_core.factory import (
    create_rl_trainer,
    create_sft_trainer,
    get_trainer,
)
from aligntune_core.installed import get_backend_status, list_backends, support_matrix
from aligntune_core.ours import BackendType

__all__ = [
    "BackendType",
    "create_rl_trainer",
    "create_sft_trainer",
    "get_backend_status",
    "get_trainer",
    "list_backends",
    "support_matrix",
]
