"""Base layers: what a model says of a frame, as symbols and back."""
