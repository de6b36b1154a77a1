"""Replays an audit log: judges its recorded decisions again (docs/audit-replay.md)."""

from .argument_files import read_arguments
from .replay import replay
from .report import ReplayFault, ReplayFinding, ReplayReport, Standing

__all__ = ["ReplayFault", "ReplayFinding", "ReplayReport", "Standing", "read_arguments", "replay"]
