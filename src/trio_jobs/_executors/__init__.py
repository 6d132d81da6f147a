"""Executors, the owners of the SDK session. No module here imports another one."""
