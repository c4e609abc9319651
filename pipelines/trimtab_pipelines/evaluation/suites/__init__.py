"""Suites: what is asked of a version beside its own held-out data.

Each has a file of cases that ships here, and takes another of the same form in its place.
"""
