{{- define "auto-advance.labels" -}}
app.kubernetes.io/name: auto-advance
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "auto-advance.selector" -}}
app.kubernetes.io/name: auto-advance
{{- end }}

{{- define "auto-advance.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}

{{- define "auto-advance.subject" -}}
- kind: ServiceAccount
  name: auto-advance
  namespace: {{ .Release.Namespace }}
{{- end }}
