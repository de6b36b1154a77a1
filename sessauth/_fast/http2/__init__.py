"""gRPC over HTTP/2, for the calls of gateways: one event loop over libnghttp2."""
