{{/* The head of a policy: (list root "name" "paramKind line or empty") */}}
{{- define "trimtab.policy" -}}
{{- $root := index . 0 -}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata:
  name: {{ include "trimtab.clusterName" $root }}-{{ index . 1 }}
  labels:
    {{- include "trimtab.labels" $root | nindent 4 }}
spec:
  failurePolicy: Fail
  {{- with index . 2 }}
  {{ . }}
  {{- end }}
{{- end -}}

{{/* What puts it into force: (list root "name" whether-it-looks-at-all-versions) */}}
{{- define "trimtab.policyBinding" -}}
{{- $root := index . 0 -}}
{{- $name := printf "%s-%s" (include "trimtab.clusterName" $root) (index . 1) -}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata:
  name: {{ $name }}
  labels:
    {{- include "trimtab.labels" $root | nindent 4 }}
spec:
  policyName: {{ $name }}
  validationActions: [Deny]
  {{- if index . 2 }}
  paramRef: {selector: {}, parameterNotFoundAction: Allow}
  {{- end }}
  {{- include "trimtab.policyScope" $root | nindent 2 }}
{{- end -}}

{{- define "trimtab.policyScope" -}}
{{- with .Values.watchNamespaces -}}
matchResources:
  namespaceSelector:
    matchExpressions:
      - {key: kubernetes.io/metadata.name, operator: In, values: {{ toJson . }}}
{{- end -}}
{{- end -}}

{{/* Whether an InferenceService names the version that the policy looks at. */}}
{{- define "trimtab.namesVersion" -}}
(has({{ . }}.spec.models) && {{ . }}.spec.models.exists(m, has(m.version.name) && m.version.name == params.metadata.name)) || (has({{ . }}.spec.baseModel.modelVersion) && {{ . }}.spec.baseModel.modelVersion.name == params.metadata.name)
{{- end -}}
