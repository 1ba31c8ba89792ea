{{/* The release's name, short enough for every suffix. */}}
{{- define "relayctl.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "relayctl.secret" -}}
{{- .Values.secret | default (printf "%s-secrets" (include "relayctl.name" .)) -}}
{{- end -}}

{{/* Labels that select; `component` is added by whoever includes them. */}}
{{- define "relayctl.selector" -}}
app.kubernetes.io/name: relayctl
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "relayctl.labels" -}}
{{ include "relayctl.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}

{{- define "relayctl.podSecurity" -}}
runAsNonRoot: true
{{- with .Values.userId }}
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* Alike on every node: image, probes, what the process may. */}}
{{- define "relayctl.container" -}}
name: relayctl
image: {{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
startupProbe:
  httpGet: {path: /healthz, port: relayctl}
  periodSeconds: 1
  failureThreshold: 30
livenessProbe:
  httpGet: {path: /healthz, port: relayctl}
  periodSeconds: 10
  timeoutSeconds: 2
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: relayctl}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: 2
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{- define "relayctl.environment" -}}
- name: RELAYCTL_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: RELAYCTL_CONFIG
  value: /etc/relayctl/relayctl.yaml
- name: RELAYCTL_DATA_DIR
  value: /var/lib/relayctl
{{- end -}}
