"""Decides which children a ModelServing needs. Pure: no I/O, no clock."""
