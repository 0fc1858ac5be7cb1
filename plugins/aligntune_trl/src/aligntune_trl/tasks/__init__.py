"""SFT's other tasks, which TRL's trainers do not know: transformers' own Trainer, on models with another head."""
