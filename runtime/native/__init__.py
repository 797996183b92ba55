"""Our own int8 engine for CPUs, in C."""
