"""`python -m packetwalk` is `packetwalk`."""

import sys

from packetwalk.cli import main

if __name__ == "__main__":
    sys.exit(main())
