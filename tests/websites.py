"""Loopback servers for sources: TLS under a CA of our own, a proxy, a hub, S3."""

import datetime as dt
import hashlib
import ipaddress
import json
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Authority:
    """A CA and a certificate of it for 127.0.0.1."""

    ca: Path
    certificate: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        return context


def make_authority(directory: Path) -> Authority:
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = _certificate("tests' own CA", ca_key, None, ca_key)
    leaf = _certificate("127.0.0.1", key, ca, ca_key)
    found = Authority(directory / "ca.crt", directory / "tls.crt", directory / "tls.key")
    found.ca.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    found.certificate.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    found.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return found


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    signer: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    public = key.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
    )
    if issuer is not None:
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    return builder.sign(signer, hashes.SHA256())


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler], tls: Authority | None = None) -> Iterator[str]:
    """A server in a thread; yields host:port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if tls is not None:
        server.socket = tls.context().wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


class Quiet(BaseHTTPRequestHandler):
    """Answers without a log; `reply` sends a whole answer."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base's name
        """Say nothing."""

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", headers.get("length", str(len(body))))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@dataclass
class Website:
    """Files under paths; `statuses` are given to the next requests instead."""

    files: dict[str, bytes] = field(default_factory=dict)
    statuses: list[int] = field(default_factory=list)
    redirects: dict[str, str] = field(default_factory=dict)
    encoding: str | None = None  # what is said of the files, whatever was asked for
    account: str | None = None  # the value of an Authorization header
    requests: list[str] = field(default_factory=list)
    logins: list[str | None] = field(default_factory=list)

    def handler(self) -> type[BaseHTTPRequestHandler]:
        site = self

        class Handler(Quiet):
            def do_GET(self) -> None:
                path = urlsplit(self.path).path
                site.requests.append(self.path)
                site.logins.append(self.headers.get("Authorization"))
                if site.statuses:
                    self.reply(site.statuses.pop(0))
                elif site.account and self.headers.get("Authorization") != site.account:
                    self.reply(401, WWW_Authenticate='Basic realm="files"')
                elif path in site.redirects:
                    self.reply(302, Location=site.redirects[path])
                elif path in site.files:
                    said = {"Content_Encoding": site.encoding} if site.encoding else {}
                    self.reply(200, site.files[path], **said)
                else:
                    self.reply(404)

            do_HEAD = do_GET  # noqa: N815 - the base's name

        return Handler


@dataclass
class Proxy:
    """A proxy that opens tunnels and remembers to where."""

    tunnels: list[str] = field(default_factory=list)

    def handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(Quiet):
            def do_CONNECT(self) -> None:
                proxy.tunnels.append(self.path)
                host, _, port = self.path.rpartition(":")
                with socket.create_connection((host, int(port)), 10) as upstream:
                    self.send_response(200)
                    self.end_headers()
                    self.wfile.flush()
                    _pass_on(self.connection, upstream)
                self.close_connection = True

        return Handler


def _pass_on(left: socket.socket, right: socket.socket) -> None:
    while True:
        readable = select.select([left, right], [], [], 10)[0]
        if not readable:
            return
        for ready in readable:
            data = ready.recv(1 << 16)
            if not data:
                return
            (right if ready is left else left).sendall(data)


@dataclass
class Hub:
    """The part of a Hugging Face hub that reading one commit needs."""

    commit: str
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)  # "models/org/name"
    large: set[str] = field(default_factory=set)  # files that the hub keeps as LFS objects
    token: str | None = None
    is_gated: bool = False
    spoils: bool = False  # sends other bytes than it lists
    downloads: list[str] = field(default_factory=list)
    logins: set[str | None] = field(default_factory=set)
    elsewhere: str = ""  # where large files are kept, if not here

    def handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(Quiet):
            def do_GET(self) -> None:
                parts = urlsplit(self.path).path.strip("/").split("/")
                hub.logins.add(self.headers.get("Authorization"))
                if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
                    code = "GatedRepo" if hub.is_gated else "RepoNotFound"
                    self.reply(403 if hub.is_gated else 401, X_Error_Code=code)
                elif parts[0] == "api":
                    self._tree("/".join(parts[1:4]), parts[5])
                else:
                    self._file(parts)

            do_HEAD = do_GET  # noqa: N815 - the base's name

            def _tree(self, repository: str, commit: str) -> None:
                files = hub.repositories.get(repository)
                if files is None or commit != hub.commit:
                    code = "RepoNotFound" if files is None else "RevisionNotFound"
                    self.reply(404, X_Error_Code=code)
                    return
                body = json.dumps([hub.entry(name, data) for name, data in files.items()])
                self.reply(200, body.encode(), Content_Type="application/json")

            def _file(self, parts: list[str]) -> None:
                kind = "datasets" if parts[0] == "datasets" else "models"
                rest = parts[1:] if kind == "datasets" else parts
                name = "/".join(rest[4:])
                data = hub.repositories.get(f"{kind}/{rest[0]}/{rest[1]}", {}).get(name)
                if data is None:
                    self.reply(404, X_Error_Code="EntryNotFound")
                    return
                if self.command == "GET":
                    hub.downloads.append(name)
                etag = hashlib.sha256(data).hexdigest()
                if hub.elsewhere and name in hub.large:
                    linked = {"X_Linked_Etag": f'"{etag}"', "X_Linked_Size": str(len(data))}
                    place = f"{hub.elsewhere}/{name}"
                    self.reply(302, b"", Location=place, X_Repo_Commit=hub.commit, **linked)
                    return
                sent = data[::-1] if hub.spoils else data
                self.reply(200, sent, ETag=f'"{etag}"', X_Repo_Commit=hub.commit)

        return Handler

    def entry(self, name: str, data: bytes) -> dict[str, Any]:
        oid = hashlib.sha256(data).hexdigest()
        entry = {"type": "file", "path": name, "size": len(data), "oid": oid[:40]}
        if name in self.large:
            entry["lfs"] = {"oid": oid, "size": len(data), "pointerSize": 130}
        return entry


@contextmanager
def s3_server(tls: Authority | None = None) -> Iterator[str]:
    """moto's S3, with TLS if wanted; yields its address."""
    from moto.moto_server.werkzeug_app import (  # noqa: PLC0415 - heavy
        DomainDispatcherApplication,
        create_backend_app,
    )
    from werkzeug.serving import make_server  # noqa: PLC0415

    server = make_server(
        "127.0.0.1",
        0,
        DomainDispatcherApplication(create_backend_app),
        threaded=True,
        ssl_context=tls.context() if tls else None,
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
