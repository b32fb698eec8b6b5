"""Other doors into the engine: what speaks another protocol than NATS over TCP."""
