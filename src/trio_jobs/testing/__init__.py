"""For the tests of services, handlers and SDKs. It stands beside the floors; nothing that is shipped imports it."""

from trio_jobs.testing.fakes import FakeSdk, FakeSession, Hold

__all__ = ["FakeSdk", "FakeSession", "Hold"]
