"""Baton: serve large language models with prefill and decode on different pods."""

__version__ = "0.1.0"
