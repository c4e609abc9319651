"""What prepared data looks like: figures for programs, the same as a page for people."""
