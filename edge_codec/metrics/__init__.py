"""Fidelity and rate measures, each with its definition."""
