"""The gRPC services, thin: convert, ask the log or the kernel, convert back."""
