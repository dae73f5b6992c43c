"""The kinds users write, their schemas, labels and checks."""
