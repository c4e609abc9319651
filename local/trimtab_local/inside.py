"""Looks into the cluster's network namespace from the host, without a process of its own.

A thread enters the namespace, and only that thread: sockets it opens belong there.
"""

import ctypes
import http.client
import os
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

_CLONE_NEWNET: Final = 0x40000000
_TIMEOUT_SECONDS: Final = 2.0

T = TypeVar("T")


def inside(namespace: Path, call: Callable[[], T]) -> T:
    """What `call` returns or raises when it runs inside the namespace."""

    def enter_and_call() -> T:
        _enter(namespace)
        return call()

    with ThreadPoolExecutor(max_workers=1) as lone_thread:
        return lone_thread.submit(enter_and_call).result()


def _enter(namespace: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(namespace, os.O_RDONLY)
    try:
        if libc.setns(descriptor, _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(namespace))
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class Url:
    """A health page; the certificates of health ports are self-signed and not checked."""

    port: int
    path: str
    host: str = "127.0.0.1"
    tls: bool = False


def is_healthy(namespace: Path, url: Url) -> bool:
    try:
        return inside(namespace, lambda: _get(url)) == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False


def _get(url: Url) -> int:
    connection: http.client.HTTPConnection
    if url.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(
            url.host, url.port, timeout=_TIMEOUT_SECONDS, context=context
        )
    else:
        connection = http.client.HTTPConnection(url.host, url.port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", url.path)
        return connection.getresponse().status
    finally:
        connection.close()


def accepts(path: Path) -> bool:
    """Whether something listens on a Unix socket: the file alone may be a leftover."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_TIMEOUT_SECONDS)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True
