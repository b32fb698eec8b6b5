"""Conformance tests: every test here runs against natsc and against nats-server and must pass on both."""
