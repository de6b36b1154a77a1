"""What a service measures of itself, and the page that Prometheus reads."""
