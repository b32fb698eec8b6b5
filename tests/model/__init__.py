"""JetStream as a model, and random programs that natsc, nats-server and the model must answer alike."""
