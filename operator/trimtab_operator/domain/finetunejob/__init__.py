"""What a FineTuneJob should have, and what is to be said about it."""
