"""The router process: the data path from client to prefill and decode."""
