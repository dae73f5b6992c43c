"""Compiles routes to router configuration, matches requests and picks endpoints. Pure."""
