"""`python -m edge_codec`: the command line."""

import sys

from edge_codec.cli import main

if __name__ == "__main__":
    sys.exit(main())
