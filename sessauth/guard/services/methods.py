"""The methods of a gRPC service as calls.

METHODS = MethodTable({
    "/shop.Orders/Get": ServiceMethod("read", "orders/{order_id}"),
    "/shop.Orders/Refund": ServiceMethod("write", "orders/{order_id}/refund"),
})
guard = Guard(verifier, METHODS)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...errors import UsageError
from ...scopes.call_arguments import Arguments, canonical, encode
from .call_table import CallTable, ServiceCall
from .messages import message_arguments
from .routes import ResourceTemplate


class ServiceMethod:
    """One method: its action, its resource, and how a request becomes arguments."""

    __slots__ = ("_arguments", "action", "resource")

    def __init__(
        self, action: str, resource: str, arguments: Callable[[Any], Arguments] = message_arguments
    ) -> None:
        """Describe a method.

        Args:
            action: as scopes name it.
            resource: a template whose places are fields of the request, as ``orders/{order_id}``.
            arguments: returns the arguments of a request; default: the fields of the message.

        Raises:
            UsageError: for a template that can't be read.
        """
        self.action = action
        self.resource = ResourceTemplate(resource)
        self._arguments = arguments

    def call(self, request: Any) -> ServiceCall:
        """Return the call of one request.

        Unknown fields are discarded from it first: its receiver acts on the checked message and no more.

        Raises:
            UsageError: if the request has no value for a place, or a value that JSON can't say.
            TypeError: if it is not a message.
        """
        if hasattr(request, "DiscardUnknownFields"):
            request.DiscardUnknownFields()
        arguments = self._arguments(request)
        values = arguments if isinstance(arguments, Mapping) else {}
        encoded = canonical(arguments) if isinstance(arguments, bytes | str) else encode(arguments)
        return ServiceCall(self.action, self.resource.fill(values), encoded)

    def stream(self) -> ServiceCall:
        """Return the call of a stream of requests, which is checked at its start and has no arguments.

        Raises:
            UsageError: if the resource has places, which such a call can't fill.
        """
        return ServiceCall(self.action, self.resource.fill({}), b"{}")


class MethodTable(CallTable):
    """The methods of services by their full names, ``/package.Service/Method``."""

    __slots__ = ("_methods",)

    def __init__(self, methods: Mapping[str, ServiceMethod]) -> None:
        """Take the methods. A method that is not among them is refused."""
        super().__init__()
        self._methods = dict(methods)

    def find(self, name: str) -> ServiceMethod | None:
        """Return the method of a full name, None for an unknown one."""
        return self._methods.get(name)

    def call(self, name: str, request: Any, *, streamed: bool) -> ServiceCall:
        """Return the call of a request, or of the start of a stream of them.

        Raises:
            UsageError: for an unknown method; as :meth:`ServiceMethod.call`.
            TypeError: likewise.
        """
        method = self._methods.get(name)
        if method is None:
            raise UsageError(f"{name!a} is not in the table of methods")
        return method.stream() if streamed else method.call(request)
