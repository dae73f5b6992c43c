"""Turns the typed engine into launch scripts and pod parts. Pure: no I/O but packaged templates."""
