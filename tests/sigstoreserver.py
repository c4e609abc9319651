"""A Sigstore of the test's own on loopback: Fulcio with its certificate log, and Rekor, as far as signing goes.

What they answer is real: chains, embedded timestamps, inclusion proofs and checkpoints hold under
the client's own verification. That a token was signed by its issuer is not looked at.
"""

import base64
import hashlib
import json
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ISSUER = "https://kubernetes.example.com"
SCT_LIST = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
OIDC_ISSUER = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")
Key = ec.EllipticCurvePrivateKey
Answer = dict[str, Any]


def identity_of(account: str = "default", namespace: str = "team") -> str:
    return f"https://kubernetes.io/namespaces/{namespace}/serviceaccounts/{account}"


def token_for(identity: str, audience: str = "sigstore", lasts: int = 600) -> str:
    """As the kubelet projects it; the name in it is the one that Fulcio certifies."""
    now = int(time.time())
    claims = {"iss": ISSUER, "sub": identity, "aud": audience, "iat": now, "exp": now + lasts}
    return jwt.encode(claims, "x" * 32, algorithm="HS256")


class Sigstore:
    """Three keys: of the authority, of its certificate log, and of the log of signatures."""

    def __init__(self) -> None:
        self.authority, self.certificate_log, self.log = (
            ec.generate_private_key(ec.SECP256R1()) for _ in range(3)
        )
        self.root = self._root()
        self.entries: list[bytes] = []
        self.address = ""
        self.refuses = ""  # Fulcio says this instead of a certificate

    @contextmanager
    def running(self) -> Iterator["Sigstore"]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def trust_config(self) -> str:
        """What clients are told: where everything is, and whom to believe."""
        valid = {"start": "2020-01-01T00:00:00Z"}
        service = {"url": self.address, "majorApiVersion": 1, "validFor": valid, "operator": "test"}
        chain = {"certificates": [{"rawBytes": _b64(self.root.public_bytes(Encoding.DER))}]}
        authority = {
            "subject": {"organization": "test", "commonName": "test"},
            "uri": self.address,
            "certChain": chain,
            "validFor": valid,
        }
        config = {
            "mediaType": "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json",
            "trustedRoot": {
                "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
                "tlogs": [self._instance(self.log)],
                "certificateAuthorities": [authority],
                "ctlogs": [self._instance(self.certificate_log)],
                "timestampAuthorities": [],
            },
            "signingConfig": {
                "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
                "caUrls": [service],
                "oidcUrls": [],
                "rekorTlogUrls": [service],
                "rekorTlogConfig": {"selector": "ANY"},
                "tsaUrls": [],
                "tsaConfig": {"selector": "ANY"},
            },
        }
        return json.dumps(config)

    def trusted_by(self, place: Path, *identities: str) -> Path:
        """A ConfigMap of trusted signers, as it is mounted."""
        place.mkdir(parents=True, exist_ok=True)
        (place / "trust-config.json").write_text(self.trust_config())
        known = [{"identity": each, "issuer": ISSUER} for each in identities]
        (place / "identities.json").write_text(json.dumps(known))
        return place

    # --- Fulcio ---

    def certify(self, token: str, request: Answer) -> Answer:
        claims = jwt.decode(token, options={"verify_signature": False})
        wanted = x509.load_pem_x509_csr(base64.b64decode(request["certificateSigningRequest"]))
        key = wanted.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        draft = self._certificate(key, claims, b"\x04\x02\x00\x00")
        made = self._certificate(key, claims, self._timestamps(draft), like=draft)
        chain = [c.public_bytes(Encoding.PEM).decode() for c in (made, self.root)]
        return {"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}}

    def _certificate(
        self,
        key: ec.EllipticCurvePublicKey,
        claims: Answer,
        timestamps: bytes,
        like: x509.Certificate | None = None,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(claims["sub"])])
        issuer = x509.UnrecognizedExtension(OIDC_ISSUER, claims["iss"].encode())
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
        by = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.authority.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.root.subject)
            .public_key(key)
            .serial_number(like.serial_number if like else x509.random_serial_number())
            .not_valid_before(like.not_valid_before_utc if like else now - timedelta(minutes=1))
            .not_valid_after(like.not_valid_after_utc if like else now + timedelta(minutes=9))
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(usage, critical=False)
            .add_extension(by, critical=False)
            .add_extension(names, critical=True)
            .add_extension(issuer, critical=False)
            .add_extension(x509.UnrecognizedExtension(SCT_LIST, timestamps), critical=False)
            .sign(self.authority, hashes.SHA256())
        )

    def _timestamps(self, draft: x509.Certificate) -> bytes:
        """One signed certificate timestamp (RFC 6962), in the form of the extension."""
        body, moment = draft.tbs_precertificate_bytes, int(time.time() * 1000)
        entry = _key_id(self.authority) + len(body).to_bytes(3, "big") + body
        signed = struct.pack("!BBQH", 0, 0, moment, 1) + entry + b"\x00\x00"
        signature = self.certificate_log.sign(signed, ec.ECDSA(hashes.SHA256()))
        made = b"\x00" + _key_id(self.certificate_log) + struct.pack("!QH", moment, 0)
        made += b"\x04\x03" + struct.pack("!H", len(signature)) + signature
        listed = struct.pack("!H", len(made)) + made
        listed = struct.pack("!H", len(listed)) + listed
        assert len(listed) < 128
        return b"\x04" + bytes([len(listed)]) + listed

    def _root(self) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
        now, key = datetime.now(UTC), self.authority.public_key()
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .sign(self.authority, hashes.SHA256())
        )

    # --- Rekor ---

    def record(self, proposed: Answer) -> Answer:
        """An entry of its own tree: every leaf is the only one, so that its proof is empty."""
        content = proposed["spec"]["proposedContent"]
        envelope = json.loads(content["envelope"])
        payload = base64.b64decode(envelope["payload"])
        spec = {
            "envelopeHash": _sha256(content["envelope"].encode()),
            "payloadHash": _sha256(payload),
            "signatures": [
                {"signature": s["sig"], "verifier": content["verifiers"][0]}
                for s in envelope["signatures"]
            ],
        }
        body = _canonical({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec})
        self.entries.append(body)
        root, moment = hashlib.sha256(b"\x00" + body).digest(), int(time.time())
        log = _key_id(self.log)
        promise = {
            "body": _b64(body),
            "integratedTime": moment,
            "logID": log.hex(),
            "logIndex": 0,
        }
        return {
            "a" * 64: {
                **promise,
                "verification": {
                    "inclusionProof": {
                        "checkpoint": self._checkpoint(root),
                        "hashes": [],
                        "logIndex": 0,
                        "rootHash": root.hex(),
                        "treeSize": 1,
                    },
                    "signedEntryTimestamp": _b64(self._signed(_canonical(promise))),
                },
            }
        }

    def _checkpoint(self, root: bytes) -> str:
        note = f"test\n1\n{_b64(root)}\n"
        signature = _key_id(self.log)[:4] + self._signed(note.encode())
        return f"{note}\n\u2014 test {_b64(signature)}\n"

    def _signed(self, data: bytes) -> bytes:
        return self.log.sign(data, ec.ECDSA(hashes.SHA256()))

    def _instance(self, key: Key) -> Answer:
        return {
            "baseUrl": self.address,
            "hashAlgorithm": "SHA2_256",
            "publicKey": {
                "rawBytes": _b64(_der(key)),
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "validFor": {"start": "2020-01-01T00:00:00Z"},
            },
            "logId": {"keyId": _b64(_key_id(key))},
        }


def _handler(sigstore: Sigstore) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/api/v1/log/entries":
                self._say(201, sigstore.record(request))
            elif sigstore.refuses:
                self._say(403, {"message": sigstore.refuses})
            else:
                token = self.headers["Authorization"].removeprefix("Bearer ")
                self._say(201, sigstore.certify(token, request))

        def _say(self, status: int, answer: Answer) -> None:
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Tests are quiet."""

    return Handler


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=not signs,
        crl_sign=not signs,
        encipher_only=False,
        decipher_only=False,
    )


def _der(key: Key) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _key_id(key: Key) -> bytes:
    return hashlib.sha256(_der(key)).digest()


def _sha256(data: bytes) -> Answer:
    return {"algorithm": "sha256", "value": hashlib.sha256(data).hexdigest()}


def _canonical(document: Answer) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
