"""Generated stubs of proto/sessauth/carriers/etcd/v1. Nothing here is written by hand."""
