{{/*
What the operator asks of the API server, and nothing else: no wildcard, no Secrets, no verb that no line of it uses.
Children are written by server-side apply, which takes `patch` and, for what is not there yet, `create`.
*/}}
{{- define "trimtab.rules" -}}
- apiGroups: [trimtab.dev]
  resources: [finetunejobs]
  verbs: [get, list, watch, create, delete] # create: drift; delete: ttlSecondsAfterFinished
- apiGroups: [trimtab.dev]
  resources: [modelversions]
  # quarantine: the one action that its own Decisions may have; see admission.yaml.
  verbs: [get, list, watch, create, patch, quarantine]
- apiGroups: [trimtab.dev]
  resources: [datasets]
  verbs: [get, list, watch, create] # create: drift
- apiGroups: [trimtab.dev]
  resources: [inferenceservices]
  verbs: [list, watch]
- apiGroups: [trimtab.dev]
  resources: [decisions]
  verbs: [get, list, watch, create] # create: the quarantine of what was rolled back
- apiGroups: [trimtab.dev]
  resources: [datasets/status, finetunejobs/status, modelversions/status, inferenceservices/status, decisions/status]
  verbs: [patch]
{{- if not .Values.watchNamespaces }}
{{ include "trimtab.namespaceRules" . }}
{{- end }}
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, create]
- apiGroups: [""]
  resources: [services, serviceaccounts]
  verbs: [list, watch, create, patch]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [""]
  resources: [events]
  verbs: [create]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [list, watch, create, patch]
# Roles that let engines and gateways read their one ConfigMap, a right that the operator has itself.
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  verbs: [list, watch, create, patch]
{{- if .Values.ray.enabled }}
{{- if not (.Capabilities.APIVersions.Has "ray.io/v1/RayJob") }}
{{- fail "ray.enabled: this cluster has no kind RayJob of ray.io/v1; install KubeRay first, or leave ray.enabled out" }}
{{- end }}
- apiGroups: [ray.io]
  resources: [rayjobs]
  verbs: [get, list, watch, create, delete]
{{- end }}
# One kind of exposure is made; what an earlier choice of another has left behind is taken away.
- apiGroups: [networking.k8s.io]
  resources: [ingresses]
  verbs: {{ include "trimtab.exposureVerbs" (list . "Ingress") }}
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: {{ include "trimtab.exposureVerbs" (list . "HTTPRoute") }}
- apiGroups: [route.openshift.io]
  resources: [routes]
  verbs: {{ include "trimtab.exposureVerbs" (list . "Route") }}
{{- if eq .Values.exposure.kind "Route" }}
# Without it OpenShift refuses a host name and a certificate of one's own choice.
- apiGroups: [route.openshift.io]
  resources: [routes/custom-host]
  verbs: [create, update]
{{- end }}
{{- end -}}

{{/* Namespaces are read for what their labels ask for: all, or the watched ones by name, which takes a cluster-wide binding. */}}
{{- define "trimtab.namespaceRules" -}}
- apiGroups: [""]
  resources: [namespaces]
  {{- with .Values.watchNamespaces }}
  resourceNames: {{ toJson . }}
  {{- end }}
  verbs: [list, watch]
{{- end -}}

{{- define "trimtab.exposureVerbs" -}}
{{- $root := index . 0 -}}
{{- ternary "[list, watch, create, patch]" "[list, delete]" (eq $root.Values.exposure.kind (index . 1)) -}}
{{- end -}}

{{/* What it takes to let objects go when the operator is gone. */}}
{{- define "trimtab.releaseRules" -}}
- apiGroups: [trimtab.dev]
  resources: [modelversions]
  verbs: [list, patch]
{{- end -}}

{{/*
A role, bound in the whole cluster or in the watched namespaces alone.
Arguments: root, name suffix, rules, service account, annotations (YAML or empty).
*/}}
{{- define "trimtab.boundRole" -}}
{{- $root := index . 0 -}}
{{- $name := printf "%s-%s" (include "trimtab.clusterName" $root) (index . 1) -}}
{{- $account := index . 3 -}}
{{- $annotations := index . 4 -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ $name }}
  labels:
    {{- include "trimtab.labels" $root | nindent 4 }}
  {{- with $annotations }}
  annotations:
    {{- . | nindent 4 }}
  {{- end }}
rules:
  {{- index . 2 | nindent 2 }}
{{- $bindings := $root.Values.watchNamespaces | default (list "") }}
{{- range $namespace := $bindings }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ ternary "RoleBinding" "ClusterRoleBinding" (ne $namespace "") }}
metadata:
  name: {{ $name }}
  {{- with $namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "trimtab.labels" $root | nindent 4 }}
  {{- with $annotations }}
  annotations:
    {{- . | nindent 4 }}
  {{- end }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ $name }}
subjects:
  - kind: ServiceAccount
    name: {{ $account }}
    namespace: {{ $root.Release.Namespace }}
{{- end }}
{{- end -}}
