"""Room for slow transfer and training; never imported by the streaming path. Empty so far."""
