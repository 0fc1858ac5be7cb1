"""The test kit's fixtures, for the tests of core and of every plugin in this repository."""

pytest_plugins = ["aligntune_core.testing.fixtures"]
