"""What comes after training: a saved model is found, opened by the backend that trained it, and exported."""
