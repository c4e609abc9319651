"""What the commands that ask a Prometheus have in common."""

import argparse
from pathlib import Path

from trimtab_operator.adapters.prometheus import Credentials


def add_credentials(parser: argparse.ArgumentParser) -> None:
    """The options for a Prometheus that wants to know who asks."""
    parser.add_argument("--token-file", type=Path, help="a bearer token for the Prometheus")
    parser.add_argument("--ca-file", type=Path, help="the CA of the Prometheus's certificate")


def credentials(given: argparse.Namespace) -> Credentials:
    """What was given of them."""
    return Credentials(given.token_file, given.ca_file)
