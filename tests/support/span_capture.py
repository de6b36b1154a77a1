"""Spans that a server sends, kept in a file, since some of its processes are others."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

# Names the file in the environment of each exporting process.
FILE = "SPANS_OF_TESTS"
EXPORTER = "tests.support.span_capture:SpansInFile"


class SpansInFile(SpanExporter):
    """Appends each span as a line of JSON."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Write the spans."""
        lines = "".join(json.dumps(_plain(span)) + "\n" for span in spans)
        # In one step: other processes append to the same file.
        handle = os.open(os.environ[FILE], os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        try:
            os.write(handle, lines.encode())
        finally:
            os.close(handle)
        return SpanExportResult.SUCCESS


def _plain(span: ReadableSpan) -> dict[str, Any]:
    context = span.get_span_context()
    return {
        "name": span.name,
        "kind": span.kind.name,
        "trace": format(context.trace_id, "032x"),
        "span": format(context.span_id, "016x"),
        "parent": format(span.parent.span_id, "016x") if span.parent else "",
        "status": span.status.status_code.name,
        "attributes": dict(span.attributes or {}),
        "resource": dict(span.resource.attributes),
        "events": [str(event) for event in span.events],
    }


@dataclass(frozen=True)
class Spans:
    """The spans in a file."""

    file: Path

    def read(self) -> list[dict[str, Any]]:
        """Return all spans that were sent so far."""
        if not self.file.exists():
            return []
        # Text after the last line feed is still being written.
        return [json.loads(line) for line in self.file.read_text("utf-8").split("\n")[:-1]]

    def of(self, trace: str, rpc: str) -> list[dict[str, Any]]:
        """Return the spans of one trace and one RPC, named ``Service/Method``."""
        return [span for span in self.read() if span["trace"] == trace and span["name"].endswith(f".{rpc}")]
