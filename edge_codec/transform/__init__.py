"""Integer transforms that undo exactly: wavelets in space and in time."""
