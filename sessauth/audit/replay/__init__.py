"""Replays an audit log: evaluates its recorded decisions again (docs/audit-replay.md)."""

from .argument_files import read_arguments
from .replay import replay
from .report import ReplayFault, ReplayFinding, ReplayReport, Standing
from .trial import RefusedCall, Trial, TrialReport

__all__ = [
    "RefusedCall",
    "ReplayFault",
    "ReplayFinding",
    "ReplayReport",
    "Standing",
    "Trial",
    "TrialReport",
    "read_arguments",
    "replay",
]
