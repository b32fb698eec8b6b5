"""`python -m natsc`: the same as the `natsc` command."""

from __future__ import annotations

import sys

from natsc.cli import main

if __name__ == "__main__":
    sys.exit(main())
