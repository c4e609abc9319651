"""All I/O: the API server, pods, the registry, the clock. Library errors become ours here."""
