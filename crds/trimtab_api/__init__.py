"""The contract between Trimtab's programs and its users.

Types of the custom resources (`v1alpha1`), the documents that the operator exchanges with its
pods (`documents`), the routing table (`routing`), labels and names (`names`). Everything here is
a pure description: no I/O, no clock, no randomness, so that every program can depend on it.
"""
