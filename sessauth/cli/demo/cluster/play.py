"""Plays the chapters and prints their lines."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

from .chapters import CHAPTERS
from .demo_cluster import open_cluster
from .story import Story

Write = Callable[[str], None]


def run(write: Write, *, as_json: bool = False) -> int:
    """Play all chapters, and ``write`` their lines, or one JSON document at the end.

    Returns 0 if every line was as expected, else 1. Raises UsageError if etcd is not installed, and
    Unavailable if a process is not ready in time.
    """
    began = time.monotonic()

    with open_cluster() as cluster:

        def show(text: str) -> None:
            cluster.interruption.check()
            if not as_json:
                write(text)

        story = Story(cluster, show)
        show(
            "Three members of etcd, two servers, two hosts that follow, and on each of these a verifier that"
        )
        show("judges one call a millisecond. Each line has its milliseconds since what it names; a host may")
        show("decide before the acknowledgement comes, which is then less than 0.\n")
        for number, (title, chapter) in enumerate(CHAPTERS.items()):
            story.chapter = title
            show(f"({chr(ord('a') + number)}) {title}: {(chapter.__doc__ or '').splitlines()[0]}")
            chapter(story)
            show("")
    wrong = [step for step in story.steps if not step.as_expected]
    seconds = time.monotonic() - began
    if as_json:
        steps = [step.to_dict() for step in story.steps]
        write(json.dumps({"steps": steps, "wrong": len(wrong), "seconds": round(seconds, 1)}, indent=2))
    else:
        write(f"{len(story.steps)} lines, {len(wrong)} not as expected; {seconds:.0f} s, all processes ended")
    return 1 if wrong else 0
