"""Proof of what a version is and does: verified files, figures on held-out data, a fingerprint."""
