"""Clients of a sessauth server, blocking and asyncio."""

from ._address import Tls as Tls
from ._async import AsyncClient as AsyncClient
from ._decision import RemoteDecision as RemoteDecision
from ._results import ApprovalPage as ApprovalPage
from ._results import CheckItem as CheckItem
from ._results import InspectedBlock as InspectedBlock
from ._results import Inspection as Inspection
from ._results import SessionPage as SessionPage
from ._session import AsyncLiveSession as AsyncLiveSession
from ._session import LiveSession as LiveSession
from ._sync import Client as Client
from ._watch import Watch as Watch
from ._watch import WatchedCall as WatchedCall
from ._watch_async import AsyncWatch as AsyncWatch
