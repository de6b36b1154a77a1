"""Session-scoped authority for AI agents: tokens that live and die with one interaction.

This is the data plane: minting, narrowing and judging tokens. It loads neither grpc nor
protobuf; ``sessauth.client`` speaks to a server. Each name is imported when it is first used, so that a
command that uses none starts fast.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from .approvals.approver import Approver as Approver
    from .approvals.approver import ApproverKey as ApproverKey
    from .approvals.request import ApprovalRequest as ApprovalRequest
    from .crypto.keys import HolderPublicKey as HolderPublicKey
    from .crypto.keys import IssuerKey as IssuerKey
    from .crypto.keys import VerifierKey as VerifierKey
    from .crypto.keys import VerifierKeys as VerifierKeys
    from .decisions.decision import Decision as Decision
    from .decisions.decision import DecisionBase as DecisionBase
    from .decisions.decision import Denied as Denied
    from .decisions.tool_catalog import Candidate as Candidate
    from .decisions.tool_catalog import ToolCatalog as ToolCatalog
    from .decisions.tool_catalog import Verdicts as Verdicts
    from .errors import MalformedToken as MalformedToken
    from .errors import NotExtendable as NotExtendable
    from .errors import ScopeError as ScopeError
    from .errors import SessauthError as SessauthError
    from .errors import TokenError as TokenError
    from .errors import UnknownTool as UnknownTool
    from .errors import UsageError as UsageError
    from .errors import WidensAuthority as WidensAuthority
    from .model.approval import SignedApproval as SignedApproval
    from .reasons import Reason as Reason
    from .reasons import Stage as Stage
    from .reasons import SurveyVerdict as SurveyVerdict
    from .scopes.parts import Path as Path
    from .scopes.parts import Segment as Segment
    from .scopes.scope import Condition as Condition
    from .scopes.scope import FactReference as FactReference
    from .scopes.scope import Scope as Scope
    from .tokens.block_draft import TokenInfo as TokenInfo
    from .tokens.prover import AsyncProver as AsyncProver
    from .tokens.prover import HolderKey as HolderKey
    from .tokens.prover import Prover as Prover
    from .tokens.token import Issuer as Issuer
    from .tokens.token import Token as Token
    from .verifier.verifier import AsyncVerifier as AsyncVerifier
    from .verifier.verifier import Verifier as Verifier
else:
    from importlib import import_module

    _NAMES = {
        "approvals.approver": "Approver ApproverKey",
        "approvals.request": "ApprovalRequest",
        "crypto.keys": "HolderPublicKey IssuerKey VerifierKey VerifierKeys",
        "decisions.decision": "Decision DecisionBase Denied",
        "decisions.tool_catalog": "Candidate ToolCatalog Verdicts",
        "errors": (
            "MalformedToken NotExtendable ScopeError SessauthError TokenError UnknownTool UsageError "
            "WidensAuthority"
        ),
        "model.approval": "SignedApproval",
        "reasons": "Reason Stage SurveyVerdict",
        "scopes.parts": "Path Segment",
        "scopes.scope": "Condition FactReference Scope",
        "tokens.block_draft": "TokenInfo",
        "tokens.prover": "AsyncProver HolderKey Prover",
        "tokens.token": "Issuer Token",
        "verifier.verifier": "AsyncVerifier Verifier",
    }
    _MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}
    _PACKAGES = {module.partition(".")[0] for module in _NAMES}
    __all__ = tuple(_MODULES)

    def __getattr__(name: str) -> object:
        """Import a name of the package, or a package that has one. Raises AttributeError for any other."""
        if name in _PACKAGES:
            return import_module(f".{name}", __name__)
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f".{_MODULES[name]}", __name__), name)
        return value

    def __dir__() -> list[str]:
        """Return the names of the package, those not yet imported too."""
        return sorted({*globals(), *__all__})
