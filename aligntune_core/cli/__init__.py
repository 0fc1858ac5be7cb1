"""The command line: `main` catches errors and gives exit codes; each other module holds a few commands."""
