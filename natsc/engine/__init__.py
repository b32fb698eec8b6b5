"""The compiled data plane: no asyncio, sockets, clocks, logging or randomness of its own."""
