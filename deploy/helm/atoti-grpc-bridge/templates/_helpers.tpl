{{/* Names, labels, and the rules that values must keep. */}}

{{/* At drain the last traces get this long, in seconds: fixed in the bridge, and written down here alone. */}}
{{- define "bridge.telemetryFlushSeconds" -}}3{{- end }}

{{- define "bridge.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Short enough that "-headless" still fits behind it. */}}
{{- define "bridge.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 54 | trimSuffix "-" }}
{{- else if contains (include "bridge.name" .) .Release.Name }}
{{- .Release.Name | trunc 54 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "bridge.name" .) | trunc 54 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "bridge.selectorLabels" -}}
app.kubernetes.io/name: {{ include "bridge.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "bridge.labels" -}}
{{ include "bridge.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "bridge.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "bridge.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "bridge.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end }}
{{- end }}

{{- define "bridge.appProtocol" -}}
{{- default (ternary "https" "grpc" (ne .Values.tls.secretName "")) .Values.service.appProtocol }}
{{- end }}

{{/* The port of a URL, be it written or meant. */}}
{{- define "bridge.portOfUrl" -}}
{{- $url := urlParse . }}
{{- regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) | default (ternary "443" "80" (eq $url.scheme "https")) }}
{{- end }}

{{/* The ports of Atoti and its nodes, each once. */}}
{{- define "bridge.atotiPorts" -}}
{{- $ports := list (include "bridge.portOfUrl" .Values.upstream.url) }}
{{- range $url := values .Values.nodes }}
{{- $ports = append $ports (include "bridge.portOfUrl" $url) }}
{{- end }}
{{- $ports | uniq | sortAlpha | join "," }}
{{- end }}

{{/* A value as the bridge reads it. Numbers are floats once they were values, and 8388608 would be 8.388608e+06. */}}
{{- define "bridge.text" -}}
{{- if not (kindIs "float64" .) }}
{{- . }}
{{- else if eq (floor .) . }}
{{- int64 . }}
{{- else }}
{{- . }}
{{- end }}
{{- end }}

{{/* Values that do not go together: said here, by name, rather than by a pod that does not start. */}}
{{- define "bridge.validate" -}}
{{- $flush := include "bridge.telemetryFlushSeconds" . | int }}
{{- $delay := int .Values.drain.delaySeconds }}
{{- $grace := int .Values.drain.graceSeconds }}
{{- $needed := add $delay $grace $flush | int }}
{{- if le (int .Values.terminationGracePeriodSeconds) $needed }}
{{- fail (printf "terminationGracePeriodSeconds (%d) must be more than drain.delaySeconds + drain.graceSeconds + %d s to send the last traces (%d): the kubelet would kill the bridge while it drains" (int .Values.terminationGracePeriodSeconds) $flush $needed) }}
{{- end }}
{{- $own := ne .Values.credentials.mode "forward" }}
{{- if and $own (not .Values.credentials.secretName) }}
{{- fail (printf "credentials.mode %s needs credentials.secretName: the Secret that holds the bridge's own credentials" .Values.credentials.mode) }}
{{- end }}
{{- if and (not $own) .Values.credentials.secretName }}
{{- fail "credentials.secretName is used by credentials.mode basic, bearer or jwt only: choose one, or leave the Secret out" }}
{{- end }}
{{- if and $own (not .Values.tls.clientCa.secretName) (not .Values.credentials.allowAnonymousCallers) }}
{{- fail "with credentials of the bridge's own, whoever reaches it cancels with its rights, and it refuses to start: ask callers for certificates (tls.clientCa.secretName), or set credentials.allowAnonymousCallers: true where a mesh authenticates them" }}
{{- end }}
{{- if and .Values.tls.clientCa.secretName (not .Values.tls.secretName) }}
{{- fail "tls.clientCa needs tls.secretName: callers show certificates over TLS only" }}
{{- end }}
{{- if and .Values.tls.clientNames (not .Values.tls.clientCa.secretName) }}
{{- fail "tls.clientNames needs tls.clientCa.secretName: the names are those of callers' certificates" }}
{{- end }}
{{- if and (eq (default "" .Values.audit.log) "file") (not .Values.audit.volume) }}
{{- fail "audit.log: file needs audit.volume: the container's own file system is read-only" }}
{{- end }}
{{- if and .Values.audit.volume (ne (default "" .Values.audit.log) "file") }}
{{- fail "audit.volume is used by audit.log: file only" }}
{{- end }}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) }}
{{- fail "autoscaling.minReplicas is more than autoscaling.maxReplicas" }}
{{- end }}
{{- end }}
