"""Generated stubs of proto/sessauth/gateways/extauthz/v1. Nothing here is written by hand."""
