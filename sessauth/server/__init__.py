"""The service: gRPC over a Unix socket or TLS, one control process and its check workers."""
