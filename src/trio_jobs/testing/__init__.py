"""For the tests of services, handlers, SDKs and stores. It stands beside the floors; nothing shipped imports it."""

from trio_jobs.testing.fakes import FakeSdk, FakeSession, Hold
from trio_jobs.testing.stores import check_store

__all__ = ["FakeSdk", "FakeSession", "Hold", "check_store"]
