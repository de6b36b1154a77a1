"""Replays an audit log: evaluates its recorded decisions again (docs/audit-replay.md)."""

from .replay import read_arguments, replay
from .report import RefusedCall, ReplayFault, ReplayFinding, ReplayReport, Standing, Trial, TrialReport

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
