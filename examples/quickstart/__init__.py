"""The main job in one command: from raw text to a tuned model that answers."""
