"""Everything that knows asyncio transports, sockets and ssl: NATS bytes in and out of the engine."""
