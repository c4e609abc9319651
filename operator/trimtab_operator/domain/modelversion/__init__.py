"""Decisions about a ModelVersion: is the artifact what it claims, is it good enough, who uses it."""
