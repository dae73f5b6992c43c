"""Filter, score and pick endpoints for one request."""
