"""Observe, plan, apply, write status: one module a kind."""
