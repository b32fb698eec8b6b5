"""natsc: a NATS server in Python, its hot half compiled with Cython."""

__version__ = "0.1.0"
