"""A simulated inference engine with the KV hand-over protocol of the real one."""
