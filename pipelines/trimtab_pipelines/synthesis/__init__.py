"""Question-answer pairs that a teacher model writes from texts."""
