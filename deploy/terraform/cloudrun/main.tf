# The same as deploy/cloudrun/service.yaml and service-eager.yaml, where each choice is explained.

locals {
  eager      = var.hold_clients_while_app_starts
  collected  = var.collector_config != null
  policy     = coalesce(var.policy, file("${path.module}/../../cloudrun/${local.eager ? "policy-eager" : "policy"}.yaml"))
  file_texts = merge({ policy = local.policy }, local.collected ? { collector = var.collector_config } : {})
  telemetry = local.collected ? {
    OTEL_EXPORTER_OTLP_ENDPOINT = "http://127.0.0.1:4318"
    OTEL_SERVICE_NAME           = "${var.name}-gate"
  } : {}
}

resource "google_service_account" "this" {
  project      = var.project
  account_id   = "${var.name}-run" # 6 to 30 characters
  display_name = "${var.name} on Cloud Run"
}

# Files come from Secret Manager, secret or not.
resource "google_secret_manager_secret" "file" {
  for_each  = toset(local.collected ? ["policy", "collector"] : ["policy"])
  project   = var.project
  secret_id = "${var.name}-readygate-${each.key}"

  replication {
    auto {}
  }
}

resource "google_secret_manager_secret_version" "file" {
  for_each    = google_secret_manager_secret.file
  secret      = each.value.id
  secret_data = local.file_texts[each.key]

  lifecycle {
    create_before_destroy = true # a revision that runs keeps its version until the next one is there
  }
}

resource "google_secret_manager_secret_iam_member" "file" {
  for_each  = google_secret_manager_secret.file
  project   = var.project
  secret_id = each.value.secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = "serviceAccount:${google_service_account.this.email}"
}

resource "google_project_iam_member" "telemetry" {
  for_each = local.collected ? toset(["roles/cloudtrace.agent", "roles/monitoring.metricWriter"]) : toset([])
  project  = var.project
  role     = each.value
  member   = "serviceAccount:${google_service_account.this.email}"
}

resource "google_cloud_run_v2_service" "this" {
  project             = var.project
  location            = var.region
  name                = var.name
  ingress             = var.ingress
  deletion_protection = var.deletion_protection

  template {
    service_account                  = google_service_account.this.email
    execution_environment            = "EXECUTION_ENVIRONMENT_GEN2"
    timeout                          = "3600s" # the most there is; session.max_s of the policy ends sessions before
    max_instance_request_concurrency = var.sessions_per_instance
    session_affinity                 = true

    scaling {
      min_instance_count = var.min_instances
      max_instance_count = var.max_instances
    }

    containers {
      name       = "gate"
      image      = var.gate_image
      depends_on = local.eager ? null : ["app"]

      ports {
        name           = "http1"
        container_port = 8080
      }

      env {
        name  = "READYGATE_UPSTREAM"
        value = "http://127.0.0.1:${var.app_port}"
      }
      env {
        name  = "READYGATE_POLICY"
        value = "/etc/readygate/policy.yaml"
      }
      env {
        name  = "READYGATE_ADMIN"
        value = "off"
      }
      env {
        name  = "GOOGLE_CLOUD_PROJECT"
        value = var.project
      }
      dynamic "env" {
        for_each = local.telemetry
        content {
          name  = env.key
          value = env.value
        }
      }

      resources {
        limits            = var.gate_resources
        cpu_idle          = false # CPU outside of requests, too
        startup_cpu_boost = true
      }

      startup_probe {
        period_seconds    = 1
        timeout_seconds   = 1
        failure_threshold = 30
        http_get {
          path = "/_readygate/startupz"
          port = 8080
        }
      }

      liveness_probe {
        period_seconds    = 10
        timeout_seconds   = 5
        failure_threshold = 3
        http_get {
          path = "/_readygate/livez"
          port = 8080
        }
      }

      volume_mounts {
        name       = "policy"
        mount_path = "/etc/readygate"
      }
    }

    containers {
      name  = "app"
      image = var.app_image

      dynamic "env" {
        for_each = merge(var.app_env, { PORT = tostring(var.app_port) })
        content {
          name  = env.key
          value = env.value
        }
      }

      resources {
        limits            = var.app_resources
        cpu_idle          = false
        startup_cpu_boost = true
      }

      startup_probe {
        period_seconds    = 1
        timeout_seconds   = 1
        failure_threshold = 240
        tcp_socket {
          port = var.app_port
        }
      }
    }

    dynamic "containers" {
      for_each = local.collected ? [1] : []
      content {
        name  = "collector"
        image = var.collector_image
        args  = ["--config=/etc/otelcol-google/config.yaml"]

        resources {
          limits   = { cpu = "0.5", memory = "256Mi" }
          cpu_idle = false
        }

        startup_probe {
          period_seconds    = 5
          timeout_seconds   = 5
          failure_threshold = 12
          http_get {
            path = "/"
            port = 13133
          }
        }

        volume_mounts {
          name       = "collector"
          mount_path = "/etc/otelcol-google"
        }
      }
    }

    volumes {
      name = "policy"
      secret {
        secret = google_secret_manager_secret.file["policy"].secret_id
        items {
          version = google_secret_manager_secret_version.file["policy"].version
          path    = "policy.yaml"
        }
      }
    }

    dynamic "volumes" {
      for_each = local.collected ? [1] : []
      content {
        name = "collector"
        secret {
          secret = google_secret_manager_secret.file["collector"].secret_id
          items {
            version = google_secret_manager_secret_version.file["collector"].version
            path    = "config.yaml"
          }
        }
      }
    }
  }

  depends_on = [google_secret_manager_secret_iam_member.file]
}

resource "google_cloud_run_v2_service_iam_member" "public" {
  count    = var.public ? 1 : 0
  project  = var.project
  location = google_cloud_run_v2_service.this.location
  name     = google_cloud_run_v2_service.this.name
  role     = "roles/run.invoker"
  member   = "allUsers"
}
