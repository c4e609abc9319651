"""The gateway: one OpenAI-compatible door in front of all engines of a service."""
