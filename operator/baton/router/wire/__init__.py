"""HTTP/1.1 as the router speaks it on both sides. Knows nothing of models, routes or endpoints."""
