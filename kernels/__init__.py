"""Custom GPU kernels in Triton, their NumPy references, and their compilation without a GPU."""
