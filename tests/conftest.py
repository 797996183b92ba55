import os

# Kernels run in Triton's interpreter, on the CPU; it is chosen when a kernel's module is imported.
os.environ["TRITON_INTERPRET"] = "1"
