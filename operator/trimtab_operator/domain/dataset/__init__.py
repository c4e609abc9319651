"""Decisions about Datasets."""
