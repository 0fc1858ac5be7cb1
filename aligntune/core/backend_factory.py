"""The names of `aligntune`, under the path that the user documents import them from."""

from aligntune import *  # noqa: F403 - the same names, whatever they are
from aligntune import __all__ as __all__
