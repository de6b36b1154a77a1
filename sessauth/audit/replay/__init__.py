"""Decides again from an audit log what the log says was decided (docs/audit-replay.md)."""

from .argument_files import read_arguments
from .replay import replay
from .report import Fault, Finding, Report, Standing

__all__ = ["Fault", "Finding", "Report", "Standing", "read_arguments", "replay"]
