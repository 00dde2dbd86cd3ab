output "uri" {
  description = "Where the service is. Clients use wss:// in place of https://."
  value       = google_cloud_run_v2_service.this.uri
}

output "service_account" {
  description = "Who the app and the collector are; give it what the app needs."
  value       = google_service_account.this.email
}
