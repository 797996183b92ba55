"""Everything that only a GPU can prove, in one command: see `__main__`."""
