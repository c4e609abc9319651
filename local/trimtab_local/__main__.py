"""Lets `python -m trimtab_local` stand for the command `trimtab-local`."""

import sys

from trimtab_local.cli import main

if __name__ == "__main__":
    sys.exit(main())
