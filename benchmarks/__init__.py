"""Measurements: speed, rate and fidelity; each run asserts the outputs that it times."""
