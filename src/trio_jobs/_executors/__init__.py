"""Executors, which own the SDK session. The modules of this package do not import each other."""
