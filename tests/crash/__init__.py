"""What survives a killed process and a power failure: see docs/durability.md."""
