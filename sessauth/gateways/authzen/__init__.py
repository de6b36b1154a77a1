"""A Policy Decision Point of the OpenID AuthZEN Authorization API 1.0."""
