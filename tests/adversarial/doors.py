"""Tries to hold the server's doors open, and prints what others noticed.

    python -m tests.adversarial.doors [--full]

With ``--full`` every RPC by itself by every role that reaches it, which takes some minutes.
"""

from __future__ import annotations

import sys

from tests.support.doors import Attack, Noticed, attacks, running_server

HEAD = (
    f"{'by':9} {'half-sent calls':60} {'made':>6} {'end p50':>8} {'p99':>7} {'lost':>5} {'reads lost':>10} "
    f"{'checks':>7} {'slowest':>8} {'lost':>5} {'workers':>8} {'health':>6}"
)


def row(attack: Attack | None, result: Noticed) -> str:
    """One line of the table: times in ms."""
    by, what = (attack.role, str(attack)) if attack is not None else ("", "none")
    middle = sorted(result.ends_ms)[len(result.ends_ms) // 2]
    return (
        f"{by:9} {what:60} {result.made:6} {middle:8.1f} {result.p99_end_ms:7.1f} {len(result.lost_ends):5} "
        f"{len(result.lost_reads):10} "
        f"{result.checks:7} {result.slowest_check_ms:8.1f} {len(result.lost_checks):5} "
        f"{'same' if result.same_workers else 'REPLACED':>8} {'yes' if result.healthy else 'NO':>6}"
    )


def _write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Say the table, line by line."""
    _write(HEAD)
    with running_server() as opened:
        _write(row(None, opened.noticed(None)))
        for attack in attacks("--full" in sys.argv[1:]):
            _write(row(attack, opened.noticed(attack)))
        _write(row(None, opened.noticed(None)))


if __name__ == "__main__":
    main()
