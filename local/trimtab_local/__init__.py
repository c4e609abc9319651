"""A real Kubernetes on one Linux machine, for trying Trimtab out and for its tests.

Only the standard library is used, so that the command runs before anything is
installed. Nothing here knows what Trimtab's own objects look like.
"""
