"""What tests share: services before a fake SDK, stores that fail, a server and its clients, and child processes."""
