"""The operator process: kopf, wiring, settings, probes."""
