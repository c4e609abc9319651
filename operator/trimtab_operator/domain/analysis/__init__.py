"""Sequential statistics on raw counters: may a version go on, is it worse, has the traffic moved.

Pure and of the standard library alone. States are small, immutable and go to JSON and back without
loss, so that an operator that restarts goes on where its predecessor was.
"""
