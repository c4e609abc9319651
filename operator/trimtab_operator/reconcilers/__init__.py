"""One module per kind: gather, decide, act. State lives in the cluster, never here."""
