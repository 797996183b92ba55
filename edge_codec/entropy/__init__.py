"""Entropy coding: integer probabilities and interleaved rANS."""
