"""The run folder: what is in it (`folder`), its checkpoints, its metrics, how a run goes on, stops and is reported."""
