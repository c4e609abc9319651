"""Decisions about an InferenceService: children, routing, and what may be said about them."""
