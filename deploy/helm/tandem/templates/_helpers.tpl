{{/* The name that everything of this release begins with. */}}
{{- define "tandem.name" -}}
{{- if contains "tandem" .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-tandem{{ end }}
{{- end }}

{{/* What a process's pods are found by. Takes a dict of root and process. */}}
{{- define "tandem.selector" -}}
app.kubernetes.io/name: tandem
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .process }}
{{- end }}

{{- define "tandem.labels" -}}
{{ include "tandem.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "tandem.port" -}}
{{- get (dict "gateway" "50050" "candidate" "50051" "generator" "50052") . -}}
{{- end }}

{{- define "tandem.keysSecret" -}}
{{ .Values.keys.existingSecret | default (printf "%s-keys" (include "tandem.name" .)) }}
{{- end }}

{{/* Health: Kubernetes' own check of gRPC knows no TLS. */}}
{{- define "tandem.health" -}}
{{- if .root.Values.tls.enabled -}}
exec: {command: [python, /opt/tandem/healthcheck.py]}
{{- else -}}
grpc: {port: {{ include "tandem.port" .process }}}
{{- end }}
{{- end }}

{{/* A process's variables: the release's own, then the process's, then what all three have. Takes
what tandem.pod takes. */}}
{{- define "tandem.environment" -}}
{{- $values := .root.Values -}}
{{- $own := dict
  "TANDEM_BUNDLE" (printf "/bundles/%s/%s" $values.bundle.name $values.bundle.version)
  "TANDEM_DRAIN_SECONDS" "10"
  "TANDEM_KEYS_FILE" "/keys/keys.toml"
  "TANDEM_METRICS_HOST" "0.0.0.0"
  "TANDEM_METRICS_PORT" $values.metrics.port -}}
{{- if $values.bundle.publicKeySecret }}{{ $_ := set $own "TANDEM_BUNDLE_KEY" "/bundle-key/public.pem" }}{{ end }}
{{- if ne .process "candidate" }}{{ $_ := set $own "TANDEM_SERVICE_KEY_FILE" "/keys/service.key" }}{{ end }}
{{- if $values.tls.enabled }}
  {{- $_ := set $own "TANDEM_TLS_CERTIFICATE" "/tls/tls.crt" }}
  {{- $_ := set $own "TANDEM_TLS_KEY" "/tls/tls.key" }}
  {{- if $values.tls.mutual }}{{ $_ := set $own "TANDEM_TLS_CLIENT_AUTHORITY" "/tls/ca.crt" }}{{ end }}
  {{- if ne .process "candidate" }}
    {{- $_ := set $own "TANDEM_SERVICE_AUTHORITY" "/tls/ca.crt" }}
    {{- if $values.tls.mutual }}
      {{- $_ := set $own "TANDEM_SERVICE_CERTIFICATE" "/tls/tls.crt" }}
      {{- $_ := set $own "TANDEM_SERVICE_CERTIFICATE_KEY" "/tls/tls.key" }}
    {{- end }}
  {{- end }}
{{- end }}
{{- range $name, $value := merge (dict) $values.environment (.environment | default dict) $own }}
- {name: {{ $name }}, value: {{ $value | toString | quote }}}
{{- end }}
{{- end }}

{{/* What every container may do: little. */}}
{{- define "tandem.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* The init container that copies bundles, where they come from a place. */}}
{{- define "tandem.fetch" -}}
{{- $bundle := .Values.bundle -}}
{{- if eq $bundle.version "current" }}
{{- fail "bundle.version: name the version to copy from bundle.source" }}
{{- end }}
{{- $image := printf "%s-gateway:%s" .Values.image.repository .Values.image.tag -}}
{{- range $index, $version := prepend $bundle.also (printf "%s/%s" $bundle.name $bundle.version) }}
- name: bundle-{{ $index }}
  image: {{ $image | quote }}
  imagePullPolicy: {{ $.Values.image.pullPolicy }}
  command: [tandem, bundle, fetch, {{ printf "%s/%s" $bundle.source $version | quote }}, --root, /bundles
    {{- if $bundle.publicKeySecret }}, --key, /bundle-key/public.pem{{ end }}]
  {{- with $bundle.credentialsSecret }}
  envFrom: [{secretRef: {name: {{ . | quote }}}}]
  {{- end }}
  securityContext: {{- include "tandem.confined" $ | nindent 4 }}
  volumeMounts:
    - {name: bundles, mountPath: /bundles}
    - {name: temporary, mountPath: /tmp}
    {{- if $bundle.publicKeySecret }}
    - {name: bundle-key, mountPath: /bundle-key, readOnly: true}
    {{- end }}
{{- end }}
{{- end }}

{{/* All of a pod but what is one process's own. Takes a dict of root, process, and, where there are
any, environment, mounts, volumes, image and resources. */}}
{{- define "tandem.pod" -}}
{{- $values := .root.Values -}}
{{- $process := .process -}}
metadata:
  labels: {{- include "tandem.labels" . | nindent 4 }}
  {{- with .checksum }}
  annotations: {checksum/config: {{ . | quote }}}
  {{- end }}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  # Until a server is warm it leaves SIGTERM to the system, which ignores it for process 1.
  shareProcessNamespace: true
  # More than TANDEM_DRAIN_SECONDS and what it takes until nobody calls any more.
  terminationGracePeriodSeconds: 30
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    seccompProfile: {type: RuntimeDefault}
  {{- with $values.image.pullSecrets }}
  imagePullSecrets: {{- range . }}
    - {name: {{ . | quote }}}
  {{- end }}
  {{- end }}
  {{- with .runtimeClass }}
  runtimeClassName: {{ . | quote }}
  {{- end }}
  {{- with $values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{- include "tandem.selector" . | nindent 10 }}
  {{- if $values.bundle.source }}
  initContainers: {{- include "tandem.fetch" .root | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ $process }}
      image: {{ printf "%s-%s:%s" $values.image.repository (.image | default $process) $values.image.tag | quote }}
      imagePullPolicy: {{ $values.image.pullPolicy }}
      env: {{- include "tandem.environment" . | trim | nindent 8 }}
        {{- with .secretEnvironment }}{{ toYaml . | nindent 8 }}{{ end }}
      ports:
        - {name: grpc, containerPort: {{ include "tandem.port" $process }}}
        - {name: metrics, containerPort: {{ $values.metrics.port }}}
      # A bundle is loaded before a process is ready: the largest within ten minutes.
      startupProbe:
        {{- include "tandem.health" . | nindent 8 }}
        periodSeconds: 2
        timeoutSeconds: 5
        failureThreshold: 300
      readinessProbe:
        {{- include "tandem.health" . | nindent 8 }}
        periodSeconds: 5
        timeoutSeconds: 5
      livenessProbe:
        {{- include "tandem.health" . | nindent 8 }}
        periodSeconds: 20
        timeoutSeconds: 5
        failureThreshold: 6
      # Callers hear of an address that goes away a little after it is decided.
      lifecycle: {preStop: {exec: {command: [python, -c, "import time; time.sleep(3)"]}}}
      resources: {{- toYaml .resources | nindent 8 }}
      securityContext: {{- include "tandem.confined" .root | nindent 8 }}
      volumeMounts:
        - {name: bundles, mountPath: /bundles, readOnly: true}
        - {name: keys, mountPath: /keys, readOnly: true}
        - {name: temporary, mountPath: /tmp}
        {{- if $values.bundle.publicKeySecret }}
        - {name: bundle-key, mountPath: /bundle-key, readOnly: true}
        {{- end }}
        {{- if $values.tls.enabled }}
        - {name: tls, mountPath: /tls, readOnly: true}
        {{- end }}
        {{- with .mounts }}{{ toYaml . | nindent 8 }}{{ end }}
  volumes:
    - name: temporary
      emptyDir: {sizeLimit: 1Gi}
    - name: bundles
      {{- if $values.bundle.source }}
      emptyDir: {sizeLimit: {{ $values.bundle.sizeLimit }}}
      {{- else }}
      persistentVolumeClaim: {claimName: {{ $values.bundle.claim | quote }}, readOnly: true}
      {{- end }}
    - name: keys
      secret:
        secretName: {{ include "tandem.keysSecret" .root | quote }}
        defaultMode: 0440
        items:
          - {key: keys.toml, path: keys.toml}
          - {key: service.key, path: service.key}
          {{- if eq $process "gateway" }}
          - {key: history.key, path: history.key}
          {{- end }}
    {{- with $values.bundle.publicKeySecret }}
    - name: bundle-key
      secret: {secretName: {{ . | quote }}}
    {{- end }}
    {{- if $values.tls.enabled }}
    - name: tls
      secret:
        secretName: {{ get $values.tls.secrets $process | required (printf "tls.secrets.%s: name the Secret with its certificate" $process) | quote }}
        defaultMode: 0440
    {{- end }}
    {{- with .volumes }}{{ toYaml . | nindent 4 }}{{ end }}
{{- end }}

{{/* A volume that a StatefulSet's pod keeps. Takes its settings. */}}
{{- define "tandem.kept" -}}
- apiVersion: v1
  kind: PersistentVolumeClaim
  metadata: {name: kept}
  spec:
    accessModes: [ReadWriteOnce]
    {{- with .storageClass }}
    storageClassName: {{ . | quote }}
    {{- end }}
    resources: {requests: {storage: {{ .size }}}}
{{- end }}
