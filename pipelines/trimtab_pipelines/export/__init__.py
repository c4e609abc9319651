"""What a version is, handed on to registries of others."""
