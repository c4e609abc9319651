"""What begins things: the process by kopf, keys by changes in the store, everything by the resync."""
