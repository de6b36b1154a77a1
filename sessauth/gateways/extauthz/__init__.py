"""Envoy's external authorization, ``envoy.service.auth.v3.Authorization/Check``."""
