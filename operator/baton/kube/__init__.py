"""Talks to the Kubernetes API: client, reflectors, stores, work queues."""
