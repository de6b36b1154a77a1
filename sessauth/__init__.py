"""Session-scoped authority for AI agents: tokens that live and die with one interaction.

What stands here is the data plane: minting, narrowing and judging tokens. It loads neither grpc nor
protobuf; ``sessauth.client`` speaks to a server.
"""

from .approval_record import SignedApproval as SignedApproval
from .approver import ApprovalRequest as ApprovalRequest
from .approver import Approver as Approver
from .approver import ApproverKey as ApproverKey
from .catalogue import ToolCatalogue as ToolCatalogue
from .decision import Decision as Decision
from .decision_base import DecisionBase as DecisionBase
from .decision_base import Denied as Denied
from .errors import MalformedToken as MalformedToken
from .errors import NotExtendable as NotExtendable
from .errors import ScopeError as ScopeError
from .errors import SessauthError as SessauthError
from .errors import TokenError as TokenError
from .errors import UnknownTool as UnknownTool
from .errors import UsageError as UsageError
from .errors import WidensAuthority as WidensAuthority
from .holder import HolderKey as HolderKey
from .holder import HolderPublicKey as HolderPublicKey
from .issuer import Issuer as Issuer
from .keys import IssuerKey as IssuerKey
from .reasons import Reason as Reason
from .reasons import Stage as Stage
from .reasons import Verdict as Verdict
from .scope import Condition as Condition
from .scope import Fact as Fact
from .scope import Path as Path
from .scope import Scope as Scope
from .scope import Segment as Segment
from .survey import Candidate as Candidate
from .survey import Verdicts as Verdicts
from .token import Token as Token
from .token import TokenInfo as TokenInfo
from .verifier import Verifier as Verifier
from .verifier_key import VerifierKey as VerifierKey
from .verifier_keys import VerifierKeys as VerifierKeys
