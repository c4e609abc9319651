"""The gateway Deployment and its Service: rolled to every release without a failed request.

A new pod comes before an old one goes, and the program itself goes on listening for some seconds
after it was told to end, because proxies learn late.
"""

from typing import Final

from trimtab_api import names
from trimtab_api.v1alpha1 import InferenceService
from trimtab_api.v1alpha1.traffic import OnAbuse
from trimtab_operator.domain import pods
from trimtab_operator.domain.inferenceservice import children
from trimtab_operator.domain.inferenceservice.engine import (
    FINISH_SECONDS,
    GRACE_SECONDS,
    TOKEN_DIRECTORY,
    pod_name,
)
from trimtab_operator.domain.manifests import Manifest
from trimtab_operator.settings import Settings

SERVICE_PORT: Final = 80


def deployment(service: InferenceService, settings: Settings) -> Manifest:
    """The gateways."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": children.metadata(
            service, names.GATEWAY, children.name(service, names.GATEWAY)
        ),
        "spec": {
            "replicas": service.spec.gateway.replicas,
            "selector": {"matchLabels": children.selector(service, names.GATEWAY)},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
            },
            "revisionHistoryLimit": 2,
            "template": _template(service, settings),
        },
    }


def front(service: InferenceService) -> Manifest:
    """The Service in front of the gateways."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": children.metadata(service, names.GATEWAY, children.service_name(service)),
        "spec": {
            "selector": children.selector(service, names.GATEWAY),
            "ports": [
                {
                    "name": "http",
                    "port": SERVICE_PORT,
                    "targetPort": names.PORT_GATEWAY,
                    "protocol": "TCP",
                }
            ],
        },
    }


def disruption_budget(service: InferenceService) -> Manifest:
    """One at a time: a drained node takes away no more, and is never blocked by a single replica."""
    selector = {"matchLabels": children.selector(service, names.GATEWAY)}
    return children.disruption_budget(service, names.GATEWAY, names.GATEWAY, selector)


def _template(service: InferenceService, settings: Settings) -> Manifest:
    keys = service.spec.gateway.api_keys
    token = pods.Mount.of("api-token", TOKEN_DIRECTORY, children.api_token())
    mounts = [pods.scratch_space(), token]
    if keys is not None:
        # Never optional: without its keys the front must stay closed, not open.
        mounts.append(pods.secret("api-keys", names.API_KEYS_PATH, keys.secret_name))
    mounts += _traffic_mounts(service)
    container = pods.container(
        "gateway",
        settings.images.serving,
        ["python", "-m", "trimtab_serving", "gateway"],
        mounts,
        settings,
        env=(
            ("TRIMTAB_NAMESPACE", service.metadata.namespace),
            ("TRIMTAB_SERVICE", service.metadata.name),
            ("TRIMTAB_ROUTING_CONFIGMAP", children.name(service, children.ROUTING)),
            ("TRIMTAB_API_KEYS", names.API_KEYS_PATH if keys is not None else ""),
            ("TRIMTAB_STOP_FINISH_SECONDS", str(FINISH_SECONDS)),
            *_traffic_settings(service),
            *_abuse_settings(service),
        ),
        ports=(("http", names.PORT_GATEWAY), ("admin", names.PORT_GATEWAY_ADMIN)),
        wants={"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
    )
    container["env"].append(pod_name())
    container["startupProbe"] = _asked("/healthz", period=1, tries=pods.STARTING_SECONDS)
    container["readinessProbe"] = _asked("/readyz", period=1, tries=3)
    container["livenessProbe"] = _asked("/healthz", period=10, tries=3)
    spec = pods.pod_spec([container], mounts, settings)
    spec |= {
        "serviceAccountName": children.name(service, names.GATEWAY),
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        # The first process of a namespace ignores signals until it has handlers for them. Not being it,
        # a gateway that is told to go while its interpreter still starts goes at once.
        "shareProcessNamespace": True,
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": children.selector(service, names.GATEWAY)},
            }
        ],
    }
    secrets = service.spec.pod.image_pull_secrets
    if secrets:
        spec["imagePullSecrets"] = [{"name": s.name} for s in secrets]
    return {
        "metadata": children.pod_metadata(service, names.GATEWAY, names.PORT_GATEWAY_ADMIN),
        "spec": spec,
    }


def _traffic_mounts(service: InferenceService) -> list[pods.Mount]:
    """What feedback is signed with, and where exchanges are kept: only what the service asks for."""
    feedback, capture = service.spec.gateway.feedback, service.spec.gateway.capture
    mounts = []
    if feedback is not None and feedback.secret is not None:
        # Never optional: without it ids would prove less than the service was promised.
        path = names.FEEDBACK_SECRET_PATH
        mounts.append(pods.secret("feedback-secret", path, feedback.secret.secret_name))
    if capture is not None:
        claim = children.name(service, names.CAPTURE)
        mounts.append(pods.claim(names.CAPTURE, names.CAPTURE_PATH, claim))
    return mounts


def _traffic_settings(service: InferenceService) -> list[tuple[str, str]]:
    feedback, capture = service.spec.gateway.feedback, service.spec.gateway.capture
    settings = []
    if feedback is not None:
        settings += [
            ("TRIMTAB_FEEDBACK_WITHIN_SECONDS", str(feedback.within_seconds)),
            ("TRIMTAB_FEEDBACK_PER_MINUTE", str(feedback.per_minute)),
            ("TRIMTAB_FEEDBACK_SECRET", names.FEEDBACK_SECRET_PATH if feedback.secret else ""),
        ]
    if capture is not None:
        settings += [
            ("TRIMTAB_CAPTURE", names.CAPTURE_PATH),
            ("TRIMTAB_CAPTURE_PERCENT", str(capture.percent)),
            ("TRIMTAB_CAPTURE_RETENTION_SECONDS", str(capture.retention_seconds)),
            ("TRIMTAB_CAPTURE_MAX_BYTES", str(capture.max_bytes)),
        ]
    return settings


def _abuse_settings(service: InferenceService) -> list[tuple[str, str]]:
    abuse = service.spec.gateway.abuse
    if abuse is None:
        return []
    is_throttled = abuse.on_abuse is OnAbuse.THROTTLE
    return [
        ("TRIMTAB_ABUSE_REQUESTS_PER_MINUTE", str(abuse.requests_per_minute or "")),
        ("TRIMTAB_ABUSE_TIMES_BUSIEST_MINUTE", str(abuse.times_busiest_minute)),
        ("TRIMTAB_ABUSE_REFUSED_PERCENT", str(abuse.refused_percent)),
        (
            "TRIMTAB_ABUSE_THROTTLED_PER_MINUTE",
            str(abuse.throttled_per_minute) if is_throttled else "",
        ),
    ]


def _asked(path: str, *, period: int, tries: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": names.PORT_GATEWAY_ADMIN},
        "periodSeconds": period,
        "timeoutSeconds": 2,
        "failureThreshold": tries,
    }
