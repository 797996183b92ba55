"""What each kernel computes, in NumPy: one module per kernel, of the same name."""
