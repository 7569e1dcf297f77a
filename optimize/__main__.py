"""`python -m optimize VERB key=value`, the same as `walkforge`."""

import sys

from optimize.cli import main

if __name__ == "__main__":
    sys.exit(main())
