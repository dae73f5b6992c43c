"""Small value types and functions that need nothing but the standard library."""
