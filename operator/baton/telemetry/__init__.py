"""Metrics, logs and traces: every metric is declared here, once."""
