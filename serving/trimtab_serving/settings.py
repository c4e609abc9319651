"""What the two programs are told by their environment. Names are those of docs/contracts.md."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trimtab_api.names import (
    GATEWAY_TABLE_KEY,
    PORT_AGENT,
    PORT_GATEWAY,
    PORT_GATEWAY_ADMIN,
    REGISTRY_CREDENTIALS_PATH,
    ROUTING_TABLE_KEY,
)

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
MEBIBYTE: Final = 1024 * 1024

Environment = Mapping[str, str]


class SettingMissing(Exception):
    """A variable without which the program cannot start."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the environment variable {name} is not set")


def required(environment: Environment, name: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise SettingMissing(name)
    return value


@dataclass(frozen=True, slots=True)
class TableSource:
    """Where the routing table is: one ConfigMap behind an API server, and a copy for bad days.

    Of `keys` the first that is there counts.
    """

    api_server: str
    namespace: str
    configmap: str
    token_file: Path
    ca_file: Path
    cache: Path | None
    keys: tuple[str, ...] = (ROUTING_TABLE_KEY,)

    @classmethod
    def of(cls, environment: Environment, program: str, *keys: str) -> "TableSource":
        account = Path(environment.get("TRIMTAB_SERVICE_ACCOUNT", str(SERVICE_ACCOUNT)))
        cache = environment.get("TRIMTAB_TABLE_CACHE", f"/tmp/trimtab-{program}-table.json")  # noqa: S108 - the pod's own /tmp
        return cls(
            api_server=api_server(environment),
            namespace=required(environment, "TRIMTAB_NAMESPACE"),
            configmap=required(environment, "TRIMTAB_ROUTING_CONFIGMAP"),
            token_file=account / "token",
            ca_file=account / "ca.crt",
            cache=Path(cache) if cache else None,
            keys=keys,
        )


def api_server(environment: Environment) -> str:
    if given := environment.get("TRIMTAB_API_SERVER"):
        return given.rstrip("/")
    host = required(environment, "KUBERNETES_SERVICE_HOST")
    host = f"[{host}]" if ":" in host else host
    return f"https://{host}:{environment.get('KUBERNETES_SERVICE_PORT', '443')}"


@dataclass(frozen=True, slots=True)
class Stopping:
    """How a program ends: unready at once, deaf after `notice_seconds`, gone when its answers are out.

    The notice is for those who learn late that this address is going away.
    """

    notice_seconds: float
    finish_seconds: float

    @classmethod
    def of(cls, environment: Environment) -> "Stopping":
        return cls(
            notice_seconds=float(environment.get("TRIMTAB_STOP_NOTICE_SECONDS", "5")),
            finish_seconds=float(environment.get("TRIMTAB_STOP_FINISH_SECONDS", "600")),
        )


@dataclass(frozen=True, slots=True)
class FeedbackSettings:
    """Only there where feedback is taken; `secret` is what response ids are signed with beside keys."""

    secret: Path | None
    within_seconds: int
    per_minute: int

    @classmethod
    def of(cls, environment: Environment) -> "FeedbackSettings | None":
        if not environment.get("TRIMTAB_FEEDBACK_WITHIN_SECONDS"):
            return None
        secret = environment.get("TRIMTAB_FEEDBACK_SECRET", "")
        return cls(
            secret=Path(secret) if secret else None,
            within_seconds=int(environment["TRIMTAB_FEEDBACK_WITHIN_SECONDS"]),
            per_minute=int(required(environment, "TRIMTAB_FEEDBACK_PER_MINUTE")),
        )


@dataclass(frozen=True, slots=True)
class AbuseSettings:
    """Only there where callers are looked at; a limit that is None is none."""

    requests_per_minute: int | None
    times_busiest_minute: int
    refused_percent: int
    throttled_per_minute: int | None

    @classmethod
    def of(cls, environment: Environment) -> "AbuseSettings | None":
        if not environment.get("TRIMTAB_ABUSE_TIMES_BUSIEST_MINUTE"):
            return None
        limit = environment.get("TRIMTAB_ABUSE_REQUESTS_PER_MINUTE", "")
        slow = environment.get("TRIMTAB_ABUSE_THROTTLED_PER_MINUTE", "")
        return cls(
            requests_per_minute=int(limit) if limit else None,
            times_busiest_minute=int(environment["TRIMTAB_ABUSE_TIMES_BUSIEST_MINUTE"]),
            refused_percent=int(required(environment, "TRIMTAB_ABUSE_REFUSED_PERCENT")),
            throttled_per_minute=int(slow) if slow else None,
        )


@dataclass(frozen=True, slots=True)
class CaptureSettings:
    """Only there where exchanges are kept."""

    directory: Path
    percent: float
    retention_seconds: int
    max_bytes: int

    @classmethod
    def of(cls, environment: Environment) -> "CaptureSettings | None":
        directory = environment.get("TRIMTAB_CAPTURE", "")
        if not directory:
            return None
        return cls(
            directory=Path(directory),
            percent=float(required(environment, "TRIMTAB_CAPTURE_PERCENT")),
            retention_seconds=int(required(environment, "TRIMTAB_CAPTURE_RETENTION_SECONDS")),
            max_bytes=int(required(environment, "TRIMTAB_CAPTURE_MAX_BYTES")),
        )


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    table: TableSource
    service: str
    pod: str
    api_keys: Path | None
    max_body_bytes: int
    host: str
    port: int
    admin_port: int
    answer_seconds: float
    stopping: Stopping
    feedback: FeedbackSettings | None = None
    capture: CaptureSettings | None = None
    abuse: AbuseSettings | None = None

    @classmethod
    def of(cls, environment: Environment) -> "GatewaySettings":
        keys = environment.get("TRIMTAB_API_KEYS", "")
        return cls(
            table=TableSource.of(environment, "gateway", GATEWAY_TABLE_KEY, ROUTING_TABLE_KEY),
            service=required(environment, "TRIMTAB_SERVICE"),
            pod=environment.get("TRIMTAB_POD", ""),
            api_keys=Path(keys) if keys else None,
            max_body_bytes=int(environment.get("TRIMTAB_MAX_BODY_BYTES", str(8 * MEBIBYTE))),
            host=environment.get("TRIMTAB_HOST", "0.0.0.0"),  # noqa: S104 - a pod's open port
            port=int(environment.get("TRIMTAB_PORT", str(PORT_GATEWAY))),
            admin_port=int(environment.get("TRIMTAB_ADMIN_PORT", str(PORT_GATEWAY_ADMIN))),
            answer_seconds=float(environment.get("TRIMTAB_ANSWER_SECONDS", "600")),
            stopping=Stopping.of(environment),
            feedback=FeedbackSettings.of(environment),
            capture=CaptureSettings.of(environment),
            abuse=AbuseSettings.of(environment),
        )


@dataclass(frozen=True, slots=True)
class AgentSettings:
    table: TableSource
    service: str
    pod: str
    engine_url: str
    base_name: str
    adapter_directory: Path
    registry_credentials: Path
    trust: Path | None
    max_body_bytes: int
    host: str
    port: int
    answer_seconds: float
    recheck_seconds: float
    stopping: Stopping
    trusted_subjects: tuple[str, ...] = ()
    # The base as it is mounted, where its signature counts too.
    signed_base: Path | None = None

    @classmethod
    def of(cls, environment: Environment) -> "AgentSettings":
        credentials = environment.get("TRIMTAB_REGISTRY_CREDENTIALS", REGISTRY_CREDENTIALS_PATH)
        trust = environment.get("TRIMTAB_TRUST", "")
        base = environment.get("TRIMTAB_SIGNED_BASE", "")
        return cls(
            table=TableSource.of(
                environment, "agent", environment.get("TRIMTAB_ROUTING_KEY", ROUTING_TABLE_KEY)
            ),
            service=required(environment, "TRIMTAB_SERVICE"),
            pod=environment.get("TRIMTAB_POD", ""),
            engine_url=required(environment, "TRIMTAB_ENGINE_URL").rstrip("/"),
            base_name=required(environment, "TRIMTAB_BASE_NAME"),
            adapter_directory=Path(required(environment, "TRIMTAB_ADAPTER_DIRECTORY")),
            registry_credentials=Path(credentials),
            trust=Path(trust) if trust else None,
            # A little above the gateway's, which adds no more than a name to a body.
            max_body_bytes=int(environment.get("TRIMTAB_MAX_BODY_BYTES", str(9 * MEBIBYTE))),
            host=environment.get("TRIMTAB_HOST", "0.0.0.0"),  # noqa: S104 - a pod's open port
            port=int(environment.get("TRIMTAB_PORT", str(PORT_AGENT))),
            answer_seconds=float(environment.get("TRIMTAB_ANSWER_SECONDS", "600")),
            recheck_seconds=float(environment.get("TRIMTAB_RECHECK_SECONDS", "300")),
            stopping=Stopping.of(environment),
            trusted_subjects=tuple(json.loads(environment.get("TRIMTAB_TRUSTED_SUBJECTS", "[]"))),
            signed_base=Path(base) if base else None,
        )
