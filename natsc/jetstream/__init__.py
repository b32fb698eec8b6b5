"""JetStream: its compiled data plane (.pyx) beside its control plane (.py)."""
