"""Guards: a check in front of every tool call of an agent, in any framework.

    guard = Guard(verifier, catalogue, token=token)
    guard.run("delete_repo", arguments, lambda: delete_repo(**arguments))       # raises ToolDenied

Loads no framework and no grpc. An adapter for a framework is a module of its own beside this one.
"""

from .call import ToolDenied as ToolDenied
from .guard import Guard as Guard
from .guard import current_guard as current_guard
from .guard import guarded as guarded
from .guard import withdrawn as withdrawn
from .tool_judge import Hold as Hold
