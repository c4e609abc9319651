"""Pure decisions: the observed world in, the wanted world out. No I/O, no clock, no chance."""
