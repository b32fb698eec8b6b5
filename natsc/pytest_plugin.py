"""Fixtures for pytest: NATS servers and accounts for tests. Loads nothing of the server before a test asks for one."""
