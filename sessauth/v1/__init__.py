"""Generated stubs of proto/sessauth/v1. Nothing here is written by hand."""
