"""`python -m aligntune` is the command line."""

from aligntune_core.cli.main import main

if __name__ == "__main__":
    main()
