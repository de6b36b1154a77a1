"""Generated stubs of proto/sessauth/gateways/extmcp/v1. Nothing here is written by hand."""
