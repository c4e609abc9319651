"""The commands `pull` and `attach`: a key that never enters a cluster signs a version all the same.

What the cluster serves is brought to somebody's machine, signed there by `model_signing`, and the
bundle is attached to the artifact. Who is trusted is decided where it is verified, not here.
"""

import argparse
import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from trimtab_oci import InvalidReference, Reference, RegistryError
from trimtab_oci.signatures import REPORT_NAME, SignatureFault, check_readable
from trimtab_pipelines.registry import open_registry
from trimtab_pipelines.runtime import RunError, failure_of
from trimtab_pipelines.sign import push_bundle


def pull(arguments: argparse.Namespace) -> int:
    """Bring the files of a version, and its report, into a folder."""
    directory = Path(arguments.directory)
    if directory.is_dir() and any(directory.iterdir()):
        sys.stderr.write(f"{directory} is not empty; whatever is in it would be signed too\n")
        return 1
    return _told(lambda: asyncio.run(_pull(arguments, directory)))


def attach(arguments: argparse.Namespace) -> int:
    """Attach a bundle to the artifact that it is about."""
    try:
        bundle = Path(arguments.bundle).read_bytes()
    except OSError as fault:
        sys.stderr.write(f"{fault}\n")
        return 1
    return _told(lambda: asyncio.run(_attach(arguments, bundle)))


async def _pull(arguments: argparse.Namespace, directory: Path) -> str:
    async with open_registry(plain_http=arguments.plain_http) as registry:
        await registry.pull(_by_digest(arguments.artifact), directory)
        if arguments.report:
            content = await registry.document(_by_digest(arguments.report))
            (directory / REPORT_NAME).write_bytes(content)
    return str(directory)


async def _attach(arguments: argparse.Namespace, bundle: bytes) -> str:
    check_readable(bundle)
    artifact = _by_digest(arguments.artifact)
    async with open_registry(plain_http=arguments.plain_http) as registry:
        pushed = await push_bundle(registry, artifact.name, bundle, artifact)
    return str(pushed)


def _told(work: Callable[[], str]) -> int:
    try:
        sys.stdout.write(f"{work()}\n")
    except SignatureFault as fault:
        sys.stderr.write(f"{fault.reason}: {fault.message}\n")
        return 1
    except (RunError, RegistryError, OSError) as error:
        failure = failure_of(error)
        sys.stderr.write(f"{failure.reason}: {failure.message}\n")
        return 1
    return 0


def _by_digest(uri: str) -> Reference:
    reference = Reference.parse(uri)
    if reference.digest is None:
        raise InvalidReference(f"{uri} names no digest; a signature is about fixed content")
    return reference
