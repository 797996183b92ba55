"""One module per command: `register(parser)` declares it, `run(options, console)` does it."""
