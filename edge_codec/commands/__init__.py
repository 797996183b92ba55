"""One module per command: `register(parser)` declares its options, `run(options, console)` does it."""
