"""Clients of a sessauth server, blocking and asyncio."""

from ._async import AsyncClient as AsyncClient
from ._decision import RemoteDecision as RemoteDecision
from ._reports import BlockCensus as BlockCensus
from ._reports import Census as Census
from ._reports import Missing as Missing
from ._reports import ReportPage as ReportPage
from ._reports import SessionReport as SessionReport
from ._reports import VerifierActivity as VerifierActivity
from ._results import ApprovalPage as ApprovalPage
from ._results import CheckItem as CheckItem
from ._results import EndedSession as EndedSession
from ._results import InspectedBlock as InspectedBlock
from ._results import Inspection as Inspection
from ._results import RegisteredVerifier as RegisteredVerifier
from ._results import SessionPage as SessionPage
from ._session import AsyncLiveSession as AsyncLiveSession
from ._session import LiveSession as LiveSession
from ._sync import Client as Client
from ._target import Tls as Tls
from ._watch.checks import Watch as Watch
from ._watch.checks import WatchedCall as WatchedCall
from ._watch.checks_async import AsyncWatch as AsyncWatch
from ._watch.events import EventKind as EventKind
from ._watch.events import SessionEvent as SessionEvent
from ._watch.sessions import SessionWatch as SessionWatch
from ._watch.sessions_async import AsyncSessionWatch as AsyncSessionWatch
