"""The agent: keeps an engine's adapters equal to the routing table, and is the engine's only door."""
