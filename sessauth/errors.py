"""The exceptions of the package, by whose fault it is.

    SessauthError
    ├── UsageError          the caller's code: a wrong argument, a call out of order
    │   ├── ScopeError          a scope or condition that can't be read, or is against the format
    │   └── ConfigError         a configuration that can't be read or contradicts itself
    ├── TokenError          the token that was handed in
    │   ├── MalformedToken      not a token, truncated, damaged, or against the format
    │   ├── NotExtendable       sealed, or its secret is elsewhere
    │   ├── WidensAuthority     an attenuation that its parent could never satisfy
    │   └── IdentityRefused     an identity provider's token that opens or renews nothing
    ├── InvalidApproval     a signed approval that does not count, or one that an approver must not give
    ├── InvalidReceipt      a closure receipt that proves nothing: wrongly signed, altered, of something else
    ├── UnknownTool         a tool that is not in the operator's pinned catalogue: deny the call
    ├── Denied              a decision that is not ALLOWED (sessauth.Denied; raised by raise_if_denied())
    ├── StateError          the environment: the state folder, the disk, the key folder
    │   ├── StateUnusable       preflight refused it: mode, owner, file system, version, foreign
    │   ├── StateFull           above the 85 % mark, or no space: only ends and revokes are written
    │   ├── OutcomeUnknown      a change may or may not be durable; retry with the same request id
    │   ├── NotLeader           another server of the cluster writes; ask that one
    │   ├── RecordRefused       a record of the carried log that does not follow this host's state
    │   └── KeyFolderError      a private key that is missing, readable by others, or not a key
    ├── Rejected            the log's answer to a change that is against the rules
    └── ServerError         the error of a server's answer, or its absence
        ├── Unauthenticated
        ├── PermissionDenied
        ├── NotFound
        └── Unavailable
            └── Unreachable     nobody was there: nothing was sent, so nothing was done

Each message names the thing to change. No message contains a token or a key.
"""

from __future__ import annotations


class SessauthError(Exception):
    """Base of all."""


class UsageError(SessauthError):
    """The caller's code is wrong."""


class ScopeError(UsageError):
    """A scope or condition can't be read, or is against the format.

    ``text`` is the text read, ``offset`` the character where reading stopped (-1: unknown).
    """

    def __init__(self, message: str, text: str = "", offset: int = -1) -> None:
        """Keep the place where reading stopped."""
        super().__init__(message)
        self.text = text
        self.offset = offset


class ConfigError(UsageError):
    """A configuration can't be read or contradicts itself; names the key."""


class TokenError(SessauthError):
    """The token that was handed in is at fault."""


class MalformedToken(TokenError):
    """Not a token, truncated, damaged, or against the format."""


class NotExtendable(TokenError):
    """The token is sealed, or the secret to extend it is elsewhere."""


class WidensAuthority(TokenError):
    """An attenuation has a ``part`` that its parent could never satisfy."""

    def __init__(self, message: str, part: str = "") -> None:
        """Keep the part in text form."""
        super().__init__(message)
        self.part = part


class IdentityRefused(TokenError):
    """An identity provider's token opens or renews nothing; ``fault`` is stable, as ``IDENTITY_EXPIRED``.

    Nothing of the token is repeated.
    """

    def __init__(self, fault: str, detail: str = "") -> None:
        """Keep the stable word."""
        super().__init__(f"{fault}: {detail}" if detail else fault)
        self.fault = str(fault)


class InvalidApproval(SessauthError):
    """A signed approval does not count, or a request must not be signed; ``fault`` is stable."""

    def __init__(self, message: str, fault: str = "") -> None:
        """Keep the stable word."""
        super().__init__(message)
        self.fault = fault


class InvalidReceipt(SessauthError):
    """A closure receipt proves nothing of the expected cluster and session; ``fault`` is stable."""

    def __init__(self, message: str, fault: str = "") -> None:
        """Keep the stable word."""
        super().__init__(message)
        self.fault = fault


class UnknownTool(SessauthError):
    """A tool or method that is not in the pinned catalogue; ``tool`` is its name. Deny the call."""

    def __init__(self, message: str, tool: str = "") -> None:
        """Keep the name."""
        super().__init__(message)
        self.tool = tool


class StateError(SessauthError):
    """The environment is at fault: the state folder, the disk, the key folder."""


class StateUnusable(StateError):
    """The state folder was refused; ``problem`` is a stable word for the cause."""

    def __init__(self, message: str, problem: str = "") -> None:
        """Keep the stable word."""
        super().__init__(message)
        self.problem = problem


class StateFull(StateError):
    """Too full: only End, Suspend, Narrow and Revoke are written."""


class OutcomeUnknown(StateError):
    """The change may or may not be durable. Retry with the same request id."""


class NotLeader(StateError):
    """Another server of the cluster writes; ``address`` is where it serves, empty if that is not known."""

    def __init__(self, message: str, address: str = "") -> None:
        """Keep the address."""
        super().__init__(message)
        self.address = address


class RecordRefused(StateError):
    """A record of the carried log does not follow this host's state; ``fault`` is a stable word.

    Nothing of it was applied, and the host allows nothing once what it last proved is too old.
    """

    def __init__(self, message: str, fault: str = "") -> None:
        """Keep the stable word."""
        super().__init__(message)
        self.fault = fault


class KeyFolderError(StateError):
    """A private key is missing, readable by others, or not a key."""


class Rejected(SessauthError):
    """The log's answer to a change that is against the rules; ``word`` is stable."""

    def __init__(self, word: str, detail: str = "") -> None:
        """Keep the stable word and the detail."""
        super().__init__(f"{word}: {detail}" if detail else word)
        self.word = word
        self.detail = detail


class ServerError(SessauthError):
    """A server answered with an error, or did not answer."""

    def __init__(self, message: str, reason: str = "", field: str = "") -> None:
        """Keep the ErrorInfo reason and the field it names, where there is one."""
        super().__init__(message)
        self.reason = reason
        self.field = field


class Unauthenticated(ServerError):
    """The credential is missing or wrong."""


class PermissionDenied(ServerError):
    """The credential is right, but its role does not permit the call."""


class NotFound(ServerError):
    """No such session, key or change."""


class Unavailable(ServerError):
    """The server can't be reached, is overloaded, or did not answer within the deadline."""


class Unreachable(Unavailable):
    """No connection was made in any attempt, so nothing was sent and nothing was done."""
