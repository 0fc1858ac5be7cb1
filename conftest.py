"""The test kit's fixtures, for the tests of core and of every plugin in this repository."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # each of the parallel workers, and what it starts, takes one core

pytest_plugins = ["aligntune_core.testing.fixtures"]
