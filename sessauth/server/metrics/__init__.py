"""The metrics of a service, and the page that Prometheus reads."""
