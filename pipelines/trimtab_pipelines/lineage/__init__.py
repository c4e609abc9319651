"""The lineage of a version as a picture."""
