"""Clients of a sessauth server, blocking and asyncio."""

from ._async.client import AsyncClient as AsyncClient
from ._async.live_session import AsyncLiveSession as AsyncLiveSession
from ._async.session_watch import AsyncSessionWatch as AsyncSessionWatch
from ._decision import RemoteDecision as RemoteDecision
from ._results import ApprovalPage as ApprovalPage
from ._results import BlockCensus as BlockCensus
from ._results import Census as Census
from ._results import CheckItem as CheckItem
from ._results import EndedSession as EndedSession
from ._results import InspectedBlock as InspectedBlock
from ._results import Inspection as Inspection
from ._results import Missing as Missing
from ._results import RegisteredVerifier as RegisteredVerifier
from ._results import ReportPage as ReportPage
from ._results import SessionPage as SessionPage
from ._results import SessionReport as SessionReport
from ._results import VerifierActivity as VerifierActivity
from ._sync.client import Client as Client
from ._sync.live_session import LiveSession as LiveSession
from ._sync.session_watch import SessionWatch as SessionWatch
from ._target import Tls as Tls
from ._tasks.check_watch import AsyncWatch as AsyncWatch
from ._threads.check_watch import Watch as Watch
from ._watch.checks import WatchedCall as WatchedCall
from ._watch.events import EventKind as EventKind
from ._watch.events import SessionEvent as SessionEvent
