{{- define "buildit.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "buildit.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "buildit.labels" -}}
{{ include "buildit.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "buildit.image" -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}

{{- define "buildit.stepsNamespace" -}}
{{ default (printf "%s-steps" .Release.Namespace) .Values.steps.namespace }}
{{- end -}}

{{- define "buildit.installation" -}}
{{ default (printf "%s-%s" .Release.Namespace (include "buildit.fullname" .)) .Values.steps.installation | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "buildit.apiUrl" -}}
{{ default (printf "http://%s-api.%s.svc:%v" (include "buildit.fullname" .) .Release.Namespace .Values.api.service.port) .Values.steps.apiUrl }}
{{- end -}}

{{/* Which Secret holds the database's address. */}}
{{- define "buildit.databaseSecret" -}}
{{ default (include "buildit.fullname" .) .Values.database.existingSecret }}
{{- end -}}

{{- define "buildit.databaseKey" -}}
{{ ternary .Values.database.key "url" (not (empty .Values.database.existingSecret)) }}
{{- end -}}

{{/* Variables that hold secrets; everything else is in buildit.toml. */}}
{{- define "buildit.env" -}}
{{- $own := include "buildit.fullname" . -}}
- name: DATABASE_URL
  valueFrom:
    secretKeyRef: { name: {{ include "buildit.databaseSecret" . }}, key: {{ include "buildit.databaseKey" . }} }
- name: BUILDIT_SIGNING_KEY
  valueFrom:
    {{- if .Values.signingKey.existingSecret }}
    secretKeyRef: { name: {{ .Values.signingKey.existingSecret }}, key: {{ .Values.signingKey.key }} }
    {{- else }}
    secretKeyRef: { name: {{ $own }}, key: signing-key }
    {{- end }}
{{- if .Values.secretsKey.existingSecret }}
- name: BUILDIT_SECRETS_KEY
  valueFrom:
    secretKeyRef: { name: {{ .Values.secretsKey.existingSecret }}, key: {{ .Values.secretsKey.key }} }
- name: BUILDIT_SECRETS_OLD_KEYS
  valueFrom:
    secretKeyRef: { name: {{ .Values.secretsKey.existingSecret }}, key: secrets-old-keys, optional: true }
{{- else if .Values.secretsKey.value }}
- name: BUILDIT_SECRETS_KEY
  valueFrom:
    secretKeyRef: { name: {{ $own }}, key: secrets-key }
{{- end }}
{{- if or .Values.storage.existingSecret .Values.storage.accessKey }}
{{- $storage := default $own .Values.storage.existingSecret }}
{{- $given := not (empty .Values.storage.existingSecret) }}
- name: BUILDIT_STORAGE_ACCESS_KEY
  valueFrom:
    secretKeyRef: { name: {{ $storage }}, key: {{ ternary .Values.storage.accessKeyKey "access-key" $given }} }
- name: BUILDIT_STORAGE_SECRET_KEY
  valueFrom:
    secretKeyRef: { name: {{ $storage }}, key: {{ ternary .Values.storage.secretKeyKey "secret-key" $given }} }
{{- end }}
- name: BUILDIT_CONFIG
  value: /etc/buildit/buildit.toml
{{- end -}}

{{- define "buildit.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "buildit.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{/* Pods start anew when what they read at their start has changed. */}}
{{- define "buildit.checksums" -}}
checksum/config: {{ include (print .Template.BasePath "/configmap.yaml") . | sha256sum }}
checksum/secret: {{ include (print .Template.BasePath "/secret.yaml") . | sha256sum }}
{{- end -}}

{{/* What api and worker have in common of what an operator may set: (list root values-of-the-part). */}}
{{- define "buildit.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .topologySpreadConstraints }}
topologySpreadConstraints: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
