"""The data plane: the gateway, and the agent beside each engine.

It outlives the control plane: both programs go on with the last routing table they saw. Nothing in
here may import a training stack or a cluster client; the one ConfigMap is read by plain HTTP.
"""
