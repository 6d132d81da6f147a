"""For people's tests: what a part of their own must do to stand in for one of ours. Imports no test framework."""

from trio_jobs.testing.stores import check_store

__all__ = ["check_store"]
