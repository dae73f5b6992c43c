"""Local control planes for development, demos and tests."""
