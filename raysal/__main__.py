"""`python -m raysal` does the same as the command `raysal`."""

import sys

from raysal.cli import main

if __name__ == "__main__":
    sys.exit(main())
