"""Signing: a version's files and its report, by OpenSSF model signing."""
