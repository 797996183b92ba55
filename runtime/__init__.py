"""The runtime: inference backends, and files and arrays through the codec."""
