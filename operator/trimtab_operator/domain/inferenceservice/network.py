"""Ways in: who may reach engines and gateways, and the service's address outside the cluster."""

from collections.abc import Iterable
from typing import Final

from trimtab_api import names
from trimtab_api.v1alpha1 import InferenceService
from trimtab_operator.domain.inferenceservice import children
from trimtab_operator.domain.inferenceservice.gateway import SERVICE_PORT
from trimtab_operator.domain.manifests import Manifest
from trimtab_operator.settings import ExposureKind, Settings

EXPOSURE: Final = "exposure"
NAMESPACE_NAME: Final = "kubernetes.io/metadata.name"
# An answer may take minutes, and a stream must not be collected before it is passed on.
LONG_ANSWERS: Final = {
    "nginx.ingress.kubernetes.io/proxy-buffering": "off",
    "nginx.ingress.kubernetes.io/proxy-read-timeout": "3600",
    "nginx.ingress.kubernetes.io/proxy-body-size": "32m",
}
LONG_ANSWERS_ROUTE: Final = {"haproxy.router.openshift.io/timeout": "3600s"}


def url(service: InferenceService, settings: Settings) -> str:
    """Where the OpenAI API is, for whoever may reach it; `/v1` is part of its paths."""
    kind = settings.exposure.kind
    if kind is ExposureKind.NONE:
        return f"http://{children.service_name(service)}.{service.metadata.namespace}.svc"
    is_secure = kind is ExposureKind.ROUTE or bool(settings.exposure.tls_secret)
    return f"{'https' if is_secure else 'http'}://{host(service, settings)}"


def host(service: InferenceService, settings: Settings) -> str:
    """The host name that the chart's pattern gives this service."""
    return settings.exposure.host.replace("{name}", children.service_name(service)).replace(
        "{namespace}", service.metadata.namespace
    )


def exposure(service: InferenceService, settings: Settings) -> list[Manifest]:
    """What brings requests from outside to the Service; nothing where the chart says None."""
    builders = {
        ExposureKind.INGRESS: _ingress,
        ExposureKind.HTTP_ROUTE: _http_route,
        ExposureKind.ROUTE: _route,
    }
    build = builders.get(settings.exposure.kind)
    return [build(service, settings)] if build else []


def leftovers(exposures: Iterable[Manifest], settings: Settings) -> tuple[Manifest, ...]:
    """What another choice of the chart has left: as long as it is there, requests come in by it."""
    return tuple(e for e in exposures if e["kind"] != settings.exposure.kind)


def policies(service: InferenceService, settings: Settings) -> list[Manifest]:
    """Engines speak to gateways, operator and Prometheus alone; gateways to everybody."""
    operator = settings.network.operator_namespace
    if not operator:
        return []
    watchers = [_namespace(n) for n in (operator, settings.network.prometheus_namespace) if n]
    gateways = {"podSelector": {"matchLabels": children.selector(service, names.GATEWAY)}}
    return [
        _policy(service, names.ENGINE, [_rule([names.PORT_AGENT], [gateways, *watchers])]),
        _policy(
            service,
            names.GATEWAY,
            [_rule([names.PORT_GATEWAY], []), _rule([names.PORT_GATEWAY_ADMIN], watchers)],
        ),
    ]


def _policy(service: InferenceService, part: str, ingress: list[Manifest]) -> Manifest:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": children.metadata(service, part, children.name(service, part)),
        "spec": {
            "podSelector": {"matchLabels": children.selector(service, part)},
            "policyTypes": ["Ingress"],
            "ingress": ingress,
        },
    }


def _rule(ports: list[int], sources: list[Manifest]) -> Manifest:
    rule: Manifest = {"ports": [{"port": p, "protocol": "TCP"} for p in ports]}
    return rule | ({"from": sources} if sources else {})


def _namespace(name: str) -> Manifest:
    return {"namespaceSelector": {"matchLabels": {NAMESPACE_NAME: name}}}


def _metadata(service: InferenceService, annotations: dict[str, str]) -> Manifest:
    metadata = children.metadata(service, EXPOSURE, children.service_name(service))
    metadata["annotations"] |= annotations
    return metadata


def _ingress(service: InferenceService, settings: Settings) -> Manifest:
    name = host(service, settings)
    backend = {
        "service": {"name": children.service_name(service), "port": {"number": SERVICE_PORT}}
    }
    spec: Manifest = {
        "rules": [
            {
                "host": name,
                "http": {"paths": [{"path": "/v1", "pathType": "Prefix", "backend": backend}]},
            }
        ]
    }
    if settings.exposure.class_name:
        spec["ingressClassName"] = settings.exposure.class_name
    if settings.exposure.tls_secret:
        spec["tls"] = [{"hosts": [name], "secretName": settings.exposure.tls_secret}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": _metadata(service, LONG_ANSWERS),
        "spec": spec,
    }


def _http_route(service: InferenceService, settings: Settings) -> Manifest:
    """TLS is the business of the Gateway that the route hangs on (`parentRef`: [namespace/]name)."""
    namespace, _, gateway = settings.exposure.parent_ref.rpartition("/")
    parent = {"name": gateway} | ({"namespace": namespace} if namespace else {})
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": _metadata(service, {}),
        "spec": {
            "parentRefs": [parent],
            "hostnames": [host(service, settings)],
            "rules": [
                {
                    "matches": [{"path": {"type": "PathPrefix", "value": "/v1"}}],
                    "backendRefs": [{"name": children.service_name(service), "port": SERVICE_PORT}],
                }
            ],
        },
    }


def _route(service: InferenceService, settings: Settings) -> Manifest:
    """Always with TLS: the router's own certificate unless the chart names another."""
    tls: Manifest = {"termination": "edge", "insecureEdgeTerminationPolicy": "Redirect"}
    if settings.exposure.tls_secret:
        tls["externalCertificate"] = {"name": settings.exposure.tls_secret}
    return {
        "apiVersion": "route.openshift.io/v1",
        "kind": "Route",
        "metadata": _metadata(service, LONG_ANSWERS_ROUTE),
        "spec": {
            "host": host(service, settings),
            "to": {"kind": "Service", "name": children.service_name(service), "weight": 100},
            "port": {"targetPort": "http"},
            "tls": tls,
        },
    }
