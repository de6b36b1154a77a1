"""Chapters of the story: what happens to the cluster, and what is expected of it."""

from __future__ import annotations

import time

from ....model.receipt import ReceiptState
from ....model.receipt import verify as verify_receipt
from ....reasons import Reason
from .checks import BOUND_MS
from .story import DECISION_SECONDS, Story

AGAIN_SECONDS = 0.1


def begins(story: Story) -> None:
    """A cluster of two servers on etcd, and two hosts that follow it."""
    cluster = story.cluster
    began = time.monotonic()
    member = cluster.start_engine()
    story.done(began, f"three members of etcd answer, {member.name} leads them")
    began = time.monotonic()
    cluster.begin()
    leader = cluster.leader()
    story.done(began, f"server {leader.name} begins the cluster, and leads", expected=leader.name == "one")
    began = time.monotonic()
    server = cluster.join()
    story.done(began, f"server {server.name} is admitted, joins by a snapshot, and follows")
    for name in ("host-1", "host-2"):
        began = time.monotonic()
        cluster.follow(name)
        story.done(began, f"{name} follows: a copy of the state, no key, no access to etcd")


def changes(story: Story) -> None:
    """A session opens at one server and is changed at the other; every host judges by it."""
    cluster = story.cluster
    leader = cluster.leader()
    other = cluster.other(leader)
    began = time.monotonic()
    session, token = story.open(leader, "ticket 482")
    opened = time.monotonic()
    story.watch(token)
    story.done(began, f"{leader.name}, which leads, opens a session and mints its token")
    story.decides(Reason.ALLOWED, opened, "after the mint")
    requested = time.monotonic()
    other.ask(lambda client: client.suspend(session.id, request_id="suspend"))
    done = time.monotonic()
    story.done(requested, f"{other.name}, which does not lead, suspends it: handed on to {leader.name}")
    story.decides(Reason.SESSION_SUSPENDED, done, "after the acknowledgement", requested_at=requested)
    requested = time.monotonic()
    other.ask(lambda client: client.resume(session.id, request_id="resume"))
    done = time.monotonic()
    story.done(requested, f"{other.name} resumes it")
    story.decides(Reason.ALLOWED, done, "after the acknowledgement", requested_at=requested)
    requested, done = story.end(other, session, token)
    story.done(requested, f"{other.name} ends it")
    story.decides(Reason.SESSION_ENDED, done, "after the acknowledgement", requested_at=requested)


def engine_leader_dies(story: Story) -> None:
    """A session ends in the moment of its death."""
    cluster = story.cluster
    leader = cluster.leader()
    session, token = story.open(leader, "ticket 483")
    story.watch(token)
    story.decides(Reason.ALLOWED, time.monotonic(), "before the fault")
    member = cluster.engine_leader()
    killed = time.monotonic()
    member.kill()
    requested, done = story.end(leader, session, token)
    story.done(killed, f"{member.name} is killed; the end that is asked for at once is acknowledged")
    story.decides(Reason.SESSION_ENDED, done, "after the acknowledgement", requested_at=requested)
    member.start()
    cluster.engine_leader()


def server_dies(story: Story) -> None:
    """It is killed right after it acknowledged an end."""
    cluster = story.cluster
    leader = cluster.leader()
    other = cluster.other(leader)
    first, first_token = story.open(leader, "ticket 484")
    second, second_token = story.open(leader, "ticket 485")
    third, third_token = story.open(leader, "ticket 486")
    story.watch(third_token)
    story.decides(Reason.ALLOWED, time.monotonic(), "before the fault")
    story.end(leader, first, first_token)
    killed = time.monotonic()
    leader.process.kill()
    _, acknowledged = story.end(other, second, second_token)
    story.done(killed, f"{leader.name} is killed; the next end is acknowledged, by {other.name}")
    story.goes_on(killed, cluster.hosts, "of another session meanwhile")
    began = time.monotonic()
    states = {each.id: other.client.get_session(each.id).status.name for each in (first, second, third)}
    expected = {first.id: "ENDED", second.id: "ENDED", third.id: "ACTIVE"}
    story.done(
        began,
        f"{other.name} has the end before the kill, the one behind it, and the session that goes on:"
        f" {', '.join(states.values())}",
        expected=states == expected,
    )
    expected_reasons = [Reason.SESSION_ENDED, Reason.SESSION_ENDED, Reason.ALLOWED]
    for host in cluster.hosts:
        reasons = host.checks.settled([first_token, second_token, third_token], expected_reasons)
        story.done(
            acknowledged,
            f"{host.name} judges their tokens: {', '.join(reason.name for reason in reasons)}",
            expected=reasons == expected_reasons,
        )
    began = time.monotonic()
    leader.process.start()
    cluster.serves(leader)
    story.done(began, f"{leader.name} is started again, and follows")


def follower_pauses(story: Story) -> None:
    """Its host can't know what it misses, and denies; the other one goes on."""
    cluster = story.cluster
    paused, other = cluster.hosts
    _, token = story.open(cluster.leader(), "ticket 487")
    story.watch(token)
    story.decides(Reason.ALLOWED, time.monotonic(), "before the fault")
    paused.process.pause()
    began = time.monotonic()
    story.decides(
        Reason.STALE_STATE, began, f"after its follower was stopped (at most {BOUND_MS} ms)", [paused]
    )
    story.goes_on(began, [other], "meanwhile")
    began = time.monotonic()
    paused.process.resume()
    story.decides(Reason.ALLOWED, began, "after its follower goes on", [paused])


def majority_pauses(story: Story) -> None:
    """Two of three members are stopped: no host can know what it misses, and all deny."""
    cluster = story.cluster
    _, token = story.open(cluster.leader(), "ticket 488")
    story.watch(token)
    story.decides(Reason.ALLOWED, time.monotonic(), "before the fault")
    members = cluster.engine.members[:2]
    for member in members:
        member.pause()
    began = time.monotonic()
    story.decides(Reason.STALE_STATE, began, f"after two members stopped (at most {BOUND_MS} ms)")
    began = time.monotonic()
    for member in members:
        member.resume()
    story.decides(Reason.ALLOWED, began, "after they go on")


def closes(story: Story) -> None:
    """A session ends, and its receipt names those who can't allow a call of it any more."""
    cluster = story.cluster
    leader = cluster.leader()
    session, token = story.open(leader, "ticket 489")
    story.watch(token)
    story.decides(Reason.ALLOWED, time.monotonic(), "after the mint")
    requested, done = story.end(leader, session, token)
    story.done(requested, f"{leader.name} ends the session")
    story.decides(Reason.SESSION_ENDED, done, "after the acknowledgement", requested_at=requested)
    keys = leader.client.jwks()
    while True:
        receipt = verify_receipt(leader.client.get_receipt(session.id), keys, session_id=session.id)
        if receipt.state is ReceiptState.CLOSED or time.monotonic() - done > DECISION_SECONDS:
            break
        time.sleep(AGAIN_SECONDS)
    named = {verifier.name: verifier.state.name for verifier in receipt.verifiers}
    named |= {host.name: host.state.name for host in receipt.hosts}
    wanted = {f"server/{server.name}" for server in cluster.servers} | {host.name for host in cluster.hosts}
    story.done(
        requested,
        f"its receipt, verified with the public keys: {receipt.state.name}, for both servers and both hosts",
        expected=receipt.state is ReceiptState.CLOSED and wanted <= named.keys(),
    )
    story.narrate(", ".join(f"{name} {state}" for name, state in named.items()))
    began = time.monotonic()
    for host in cluster.hosts:
        reasons = host.checks.now(story.ended)
        refused = reasons.count(Reason.SESSION_ENDED)
        story.done(
            began,
            f"{host.name}: tokens of all {len(reasons)} ended sessions, judged again: {refused} denied",
            expected=refused == len(reasons),
        )


CHAPTERS = {
    "the cluster stands": begins,
    "a session": changes,
    "etcd's leader dies": engine_leader_dies,
    "the leading server dies": server_dies,
    "a follower is stopped": follower_pauses,
    "etcd loses its majority": majority_pauses,
    "the close": closes,
}
