"""kopf's side: an event in, a key into the queue, nothing else."""
