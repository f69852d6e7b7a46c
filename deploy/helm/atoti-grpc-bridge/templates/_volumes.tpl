{{/*
The files that the bridge reads: a folder for each Secret, mounted whole. With subPath a renewed certificate would never
arrive.
*/}}

{{- define "bridge.secretVolumes" -}}
{{- $secrets := dict
  "tls" .Values.tls.secretName
  "client-ca" .Values.tls.clientCa.secretName
  "upstream-ca" .Values.upstream.tls.ca.secretName
  "upstream-client" .Values.upstream.tls.clientSecretName
  "credentials" .Values.credentials.secretName }}
{{- $named := dict }}
{{- range $name, $secret := $secrets }}
{{- if $secret }}
{{- $_ := set $named $name $secret }}
{{- end }}
{{- end }}
{{- toYaml $named }}
{{- end }}

{{- define "bridge.mounts" -}}
{{- range $name, $secret := include "bridge.secretVolumes" . | fromYaml }}
- name: {{ $name }}
  mountPath: /etc/atoti-grpc-bridge/{{ $name }}
  readOnly: true
{{- end }}
{{- if .Values.nodes }}
- name: nodes
  mountPath: /etc/atoti-grpc-bridge/nodes
  readOnly: true
{{- end }}
{{- if .Values.audit.volume }}
- name: audit
  mountPath: /var/log/atoti-grpc-bridge
{{- end }}
{{- end }}

{{- define "bridge.volumes" -}}
{{- range $name, $secret := include "bridge.secretVolumes" . | fromYaml }}
- name: {{ $name }}
  secret:
    secretName: {{ $secret }}
    defaultMode: 0440
{{- end }}
{{- if .Values.nodes }}
- name: nodes
  configMap:
    name: {{ include "bridge.fullname" . }}-nodes
{{- end }}
{{- with .Values.audit.volume }}
- name: audit
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
