{{- define "trimtab.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Names of cluster-scoped objects: two releases in different namespaces never meet. */}}
{{- define "trimtab.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "trimtab.fullname" .) -}}
{{- end -}}

{{- define "trimtab.operator" -}}
{{- printf "%s-operator" (include "trimtab.fullname" .) -}}
{{- end -}}

{{- define "trimtab.serviceAccount" -}}
{{- default (include "trimtab.operator" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "trimtab.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "trimtab.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* One of Trimtab's images: (list . "name" "full reference or empty") */}}
{{- define "trimtab.image" -}}
{{- $root := index . 0 -}}
{{- $images := $root.Values.images -}}
{{- index . 2 | default (printf "%s/%s:%s" $images.repository (index . 1) ($images.tag | default $root.Chart.AppVersion)) -}}
{{- end -}}

{{/* What the operator reads at its start. */}}
{{- define "trimtab.settings" -}}
{{- $images := .Values.images -}}
{{- $eager := ternary (list "--enforce-eager") (list) (empty $images.engine) -}}
{{- $operatorNamespace := ternary .Release.Namespace "" .Values.networkPolicy.enabled -}}
{{- $tokenFiles := dict
  "ServiceAccount" "/var/run/secrets/kubernetes.io/serviceaccount/token"
  "Secret" "/credentials/prometheus/token" -}}
{{- $settings := dict
  "images" (dict
    "pipelines" (include "trimtab.image" (list . "pipelines" $images.pipelines))
    "serving" (include "trimtab.image" (list . "serving" $images.serving))
    "engine" (include "trimtab.image" (list . "engine-cpu" $images.engine)))
  "imagePullPolicy" $images.pullPolicy
  "registry" .Values.registry
  "engine" (dict "extraArguments" (concat $eager .Values.engine.extraArguments) "environment" .Values.engine.environment)
  "exposure" .Values.exposure
  "network" (dict "operatorNamespace" $operatorNamespace "prometheusNamespace" .Values.networkPolicy.prometheusNamespace)
  "prometheus" (dict
    "url" .Values.prometheus.url
    "tokenFile" (get $tokenFiles .Values.prometheus.bearerToken | default "")
    "caFile" (ternary (printf "/credentials/prometheus-ca/%s" .Values.prometheus.ca.key) "" (not (empty .Values.prometheus.ca.configMap))))
  "ray" .Values.ray
  "account" (include "trimtab.account" .)
  "retention" (dict "deleteRetiredAfterSeconds" (int .Values.retention.deleteRetiredAfterSeconds))
  "leaderElection" (dict "enabled" true "namespace" .Release.Namespace "lease" (include "trimtab.operator" .))
  "resyncSeconds" (int .Values.operator.resyncSeconds)
  "profiling" .Values.operator.profiling
  "watchNamespaces" .Values.watchNamespaces
  "podSecurityContext" .Values.podSecurityContext -}}
{{- toPrettyJson $settings -}}
{{- end -}}

{{/* Security of every pod of this chart: Pod Security "restricted", any user id. */}}
{{- define "trimtab.podSecurity" -}}
{{- toYaml (mergeOverwrite (dict "runAsNonRoot" true "seccompProfile" (dict "type" "RuntimeDefault")) .Values.podSecurityContext) -}}
{{- end -}}

{{- define "trimtab.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
readOnlyRootFilesystem: true
{{- end -}}

{{- define "trimtab.imagePullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* The user name under which the API server knows the operator. */}}
{{- define "trimtab.account" -}}
system:serviceaccount:{{ .Release.Namespace }}:{{ include "trimtab.serviceAccount" . }}
{{- end -}}

{{/* The port of Prometheus, for the egress policy; empty without one. */}}
{{- define "trimtab.prometheusPort" -}}
{{- with .Values.prometheus.url -}}
{{- $host := (urlParse .).host -}}
{{- if regexMatch ":[0-9]+$" $host -}}
{{- regexFind "[0-9]+$" $host -}}
{{- else -}}
{{- ternary "443" "80" (hasPrefix "https://" .) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The port of the registry, for the egress policy. */}}
{{- define "trimtab.registryPort" -}}
{{- $host := first (splitList "/" .Values.registry.prefix) -}}
{{- if contains ":" $host -}}
{{- last (splitList ":" $host) -}}
{{- else -}}
{{- ternary "80" "443" .Values.registry.plainHttp -}}
{{- end -}}
{{- end -}}
