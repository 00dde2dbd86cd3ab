variable "project" {
  description = "Project id."
  type        = string
}

variable "region" {
  description = "Where the service runs, such as europe-west1."
  type        = string
}

variable "name" {
  description = "Name of the service; secrets and the service account are named after it."
  type        = string
}

variable "gate_image" {
  description = "Image of readygate, such as REGION-docker.pkg.dev/PROJECT_ID/REPO/readygate:0.x."
  type        = string
}

variable "app_image" {
  description = "Image of the app, as it is."
  type        = string
}

variable "app_port" {
  description = "Where the app listens. The app gets it as PORT. Not 8080, which is the gate's."
  type        = number
  default     = 8000

  validation {
    condition     = var.app_port != 8080
    error_message = "8080 is the gate's: the containers of an instance share their ports."
  }
}

variable "app_env" {
  description = "Environment variables of the app."
  type        = map(string)
  default     = {}
}

variable "app_resources" {
  description = "Limits of the app's container."
  type        = map(string)
  default     = { cpu = "1", memory = "512Mi" }
}

variable "gate_resources" {
  description = "Limits of the gate's container: 2 to 3 ms of CPU for a handshake, 70 MB and 7 KB for an idle session."
  type        = map(string)
  default     = { cpu = "1", memory = "512Mi" }
}

variable "hold_clients_while_app_starts" {
  description = "false: the gate waits for the app (service.yaml). true: it holds clients while the app starts (service-eager.yaml)."
  type        = bool
  default     = false
}

variable "policy" {
  description = "Text of the gate's policy. null: deploy/cloudrun/policy.yaml or policy-eager.yaml, as the variable above says."
  type        = string
  default     = null
}

variable "collector_config" {
  description = "Text of the OpenTelemetry Collector's configuration, such as deploy/cloudrun/collector.yaml. null: no collector."
  type        = string
  default     = null
}

variable "collector_image" {
  description = "Image of the collector."
  type        = string
  default     = "us-docker.pkg.dev/cloud-ops-agents-artifacts/google-cloud-opentelemetry-collector/otelcol-google:0.160.0"
}

variable "sessions_per_instance" {
  description = "Sessions and requests that an instance serves at once, 1 to 1000. Instances are added by it."
  type        = number
  default     = 1000
}

variable "min_instances" {
  description = "Instances that are always there."
  type        = number
  default     = 1
}

variable "max_instances" {
  description = "Most instances; times sessions_per_instance, the most sessions."
  type        = number
  default     = 20
}

variable "ingress" {
  description = "Who may reach the service: INGRESS_TRAFFIC_ALL, or INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER behind a load balancer of yours."
  type        = string
  default     = "INGRESS_TRAFFIC_ALL"
}

variable "public" {
  description = "Whether anybody may call it (roles/run.invoker for allUsers). Browsers cannot send the platform's tokens."
  type        = bool
  default     = false
}

variable "deletion_protection" {
  description = "Whether Terraform refuses to delete the service."
  type        = bool
  default     = true
}
