"""The alarms, judged by Prometheus's own tool: each fires for its cause, silence fires, health does not."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.alarms import RULES, RULES_FILE, Alarm
from tests.support.markdown import Document
from tests.support.tree import ROOT

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed: it is in Debian's package prometheus"
)

TARGET = 'instance="one",job="sessauth"'
BY_NAME = {alarm.name.removeprefix("Sessauth"): alarm for alarm in RULES}
ON_SILENCE = {"Down": {"instance": "one", "job": "sessauth"}, "NotScraped": {"job": "sessauth"}, "Silent": {}}
# Alarms that name the job besides the target.
OF_A_JOB = {"HostIsBehind", "GatewayDenies"}
OTHER_HOST = 'sessauth_carried_record{instance="two",job="sessauth"}'
# Series of a server that is well and has work, once a minute for half an hour.
HEALTHY = {
    f"up{{{TARGET}}}": "1x30",
    "ready": "1x30",
    "brake": "0x30",
    "stale": "0x30",
    "leading": "1x30",
    "cluster_alarm": "0x30",
    "cluster_brake": "0x30",
    "refusing_servers": "0x30",
    "clock_differs": "0x30",
    "engine_bytes": "10000000x30",
    "engine_quota_bytes": "0x30",
    "engine_full": "0x30",
    "carried_record": "5000+10x30",
    # The tests' time begins in 1970.
    "tls_certificate_end_seconds": "7776000x30",
    "refused_connections_total": "0x30",
    "clock_suspect": "0x30",
    'process_up{process="control"}': "1x30",
    'process_up{process="worker-0"}': "1x30",
    "worker_restarts_total": "3x30",
    "commit_failures_total": "0x30",
    "state_used_bytes": "100x30",
    "state_map_bytes": "1000x30",
    'pool_refusals_total{pool="check"}': "7x30",
    'commit_seconds_bucket{le="0.5"}': "0+100x30",
    'commit_seconds_bucket{le="1"}': "0+100x30",
    'commit_seconds_bucket{le="+Inf"}': "0+100x30",
    "writer_queue_jobs": "3x30",
    "revision": "100+10x30",
    'process_revision{process="worker-0"}': "95+10x30",
    'decisions_total{reason="ALLOWED",stage="none"}': "0+6000x30",
    'decisions_total{reason="INTERNAL_ERROR",stage="none"}': "0x30",
    'decisions_total{reason="REPLAYED",stage="proof"}': "0x30",
    'decisions_total{reason="PROOF_UNAVAILABLE",stage="proof"}': "0x30",
    "bad_signatures_total": "0+60x30",
    "observed_allows_total": "0x30",
    'rpc_seconds_count{code="OK",rpc="AuthorizationService/Check"}': "0+6000x30",
    "audit_healthy": "1x30",
    "audit_lost_total": "0x30",
    'receipts_total{state="closed"}': "0+1x30",
    'receipts_total{state="partial"}': "0x30",
    'receipts_total{state="unknown"}': "0x30",
    'verifiers{state="late"}': "0x30",
    "used_after_end_total": "0x30",
    "view_current": "1x30",
    'security_events_total{event="logout",outcome="APPLIED",provider="corp"}': "0+1x30",
    'security_events_total{event="logout",outcome="IDENTITY_UNTRUSTED",provider="corp"}': "0x30",
    'event_stream_age_seconds{provider="corp"}': "30x30",
}
# What becomes of one cause, from the tenth minute on.
ILL: dict[str, dict[str, str]] = {
    "BrakeIsSet": {"brake": "0x9 1x20"},
    "HostIsStale": {"stale": "0x9 1x20"},
    "NobodyLeads": {"leading": "1x9 0x20"},
    "ClusterAlarm": {"cluster_alarm": "0x9 1x20"},
    "ClusterBrakeIsSet": {"cluster_brake": "0x9 1x20"},
    "FollowerIsRefused": {"refusing_servers": "0x9 1x20"},
    "ClockDiffers": {"clock_differs": "0x9 1x20"},
    "EngineFillsUp": {"engine_bytes": "10000000x9 1400000000x20"},
    "EngineIsFull": {"engine_full": "0x9 1x20"},
    "HostIsBehind": {OTHER_HOST: "5000+10x9 8000+10x20"},
    "CertificateEnds": {"tls_certificate_end_seconds": "7776000x9 600000x20"},
    "CertificateHasEnded": {"tls_certificate_end_seconds": "7776000x9 87000x20"},
    "ConnectionsAreRefused": {"refused_connections_total": "0x9 1+1x20"},
    "NotReady": {"ready": "1x9 0x20"},
    "WorkerIsDown": {'process_up{process="worker-0"}': "1x9 0x20"},
    "WorkersRestart": {"worker_restarts_total": "3x9 8x20"},
    "ClockIsSuspect": {"clock_suspect": "0x9 1x20"},
    "CommitFailed": {"commit_failures_total": "0x9 1+1x20"},
    "StateFillsUp": {"state_used_bytes": "100x9 701x20"},
    "CallsAreRefused": {'pool_refusals_total{pool="check"}': "7x9 8+1x20"},
    "CommitsAreSlow": {'commit_seconds_bucket{le="0.5"}': "0x30"},
    "WriterQueueIsLong": {"writer_queue_jobs": "3x9 4097x20"},
    "ProcessIsBehind": {'process_revision{process="worker-0"}': "95x30", "revision": "100x9 1200x20"},
    "ChecksFail": {'decisions_total{reason="INTERNAL_ERROR",stage="none"}': "0x9 1+1x20"},
    "ObserveModeAllows": {"observed_allows_total": "0x9 1+1x20"},
    "SignaturesAreWrong": {"bad_signatures_total": "0x9 0+660x20"},
    "ProofsAreReplayed": {'decisions_total{reason="REPLAYED",stage="proof"}': "0x9 0+66x20"},
    "ProofsAreUnavailable": {'decisions_total{reason="PROOF_UNAVAILABLE",stage="proof"}': "0x9 1+1x20"},
    "CallersAreUnknown": {
        'rpc_seconds_count{code="UNAUTHENTICATED",rpc="AuthorizationService/Check"}': "0x9 0+66x20"
    },
    "CallsFail": {'rpc_seconds_count{code="INTERNAL",rpc="AuthorizationService/Check"}': "0x9 1+1x20"},
    "AuditIsNotHealthy": {"audit_healthy": "1x9 0x20"},
    "AuditLostDecisions": {"audit_lost_total": "0x9 1+1x20"},
    "ReceiptsArePartial": {'receipts_total{state="partial"}': "0x9 1x20"},
    "ReceiptsAreUnknown": {'receipts_total{state="unknown"}': "0x9 1x20"},
    "VerifierIsLate": {'verifiers{state="late"}': "0x9 1x20"},
    "GatewayDenies": {"view_current": "1x9 0x20"},
    "UsedAfterEnd": {"used_after_end_total": "0x9 1+1x20"},
    "StatementsAreRefused": {
        'security_events_total{event="logout",outcome="IDENTITY_UNTRUSTED",provider="corp"}': "0x9 1+1x20"
    },
    "EventStreamIsSilent": {'event_stream_age_seconds{provider="corp"}': "30x9 601x20"},
}


def _labels(name: str) -> dict[str, str]:
    """Return the labels of an alarm: of one server, of all that are one cluster, or of one among those."""
    if name == "NobodyLeads":
        return {"job": "sessauth"}
    return {"instance": "one", "job": "sessauth"} if name in OF_A_JOB else {"instance": "one"}


def _series(values: Mapping[str, str]) -> list[dict[str, str]]:
    """Give each series its full name, and the target's labels."""
    named = []
    for name, numbers in values.items():
        base, _, labels = name.partition("{")
        full = name if base == "up" or name == OTHER_HOST else f"sessauth_{base}{{{TARGET},{labels or '}'}"
        named.append({"series": full, "values": numbers})
    return named


def _expected(alarm: Alarm, labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "exp_labels": {"severity": alarm.severity, **labels},
        "exp_annotations": {"summary": alarm.summary, "action": alarm.action},
    }


def _story(values: Mapping[str, str], minute: int, firing: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """A rule test for promtool: at ``minute`` these alarms fire, with these labels, and no others."""
    return {
        "interval": "1m",
        "input_series": _series(values),
        "alert_rule_test": [
            {
                "eval_time": f"{minute}m",
                "alertname": alarm.name,
                "exp_alerts": [_expected(alarm, firing[name])] if name in firing else [],
            }
            for name, alarm in BY_NAME.items()
        ],
    }


def promtool(folder: Path, *stories: dict[str, Any]) -> str:
    """Return what promtool finds wrong; empty if the stories are as told."""
    document = {"rule_files": [str(RULES_FILE)], "evaluation_interval": "1m", "tests": stories}
    file = folder / "stories.yml"
    file.write_text(json.dumps(document))
    command = ["promtool", "test", "rules", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_prometheus_takes_the_rules() -> None:
    """Promtool reads the file, and finds as many rules as the tests do."""
    command = ["promtool", "check", "rules", "--lint=all", "--lint-fatal", str(RULES_FILE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0 and f"{len(RULES)} rules found" in done.stdout, done.stdout + done.stderr


def test_prometheus_takes_the_configuration_of_the_page(tmp_path: Path) -> None:
    """It names the file of rules as it is called, and the job that the alarms on silence wait for."""
    (settings,) = Document(ROOT / "docs/operations/metrics.md").blocks("yaml")
    shutil.copy(RULES_FILE, tmp_path)
    (tmp_path / "prometheus.yml").write_text(settings)
    command = ["promtool", "check", "config", str(tmp_path / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0 and f"{len(RULES)} rules found" in done.stdout, done.stdout + done.stderr
    assert "job_name: sessauth\n" in settings


def test_a_healthy_server_sets_off_nothing(tmp_path: Path) -> None:
    """Half an hour of ordinary numbers, at any minute."""
    assert promtool(tmp_path, *(_story(HEALTHY, minute, {}) for minute in (1, 10, 30))) == ""


def test_each_cause_sets_off_its_alarm_and_no_other(tmp_path: Path) -> None:
    """Every alarm has a cause here, and fires for it alone."""
    assert set(ILL) == set(BY_NAME) - set(ON_SILENCE)
    stories = [_story({**HEALTHY, **ill}, 21, {name: _labels(name)}) for name, ill in ILL.items()]
    assert promtool(tmp_path, *stories) == ""


def test_a_dead_server_sets_off_the_alarms_on_silence(tmp_path: Path) -> None:
    """A silent server has no numbers, so every other alarm ends, also one that fired."""
    dead = {
        name: re.sub(r"x30$", "x9 stale", values) for name, values in {**HEALTHY, "brake": "1x30"}.items()
    }
    dead[f"up{{{TARGET}}}"] = "1x9 0x20"
    down, silent = ({name: ON_SILENCE[name]} for name in ("Down", "Silent"))
    assert promtool(tmp_path, _story(dead, 12, down), _story(dead, 20, {**down, **silent})) == ""


def test_a_server_that_nobody_looks_at_is_missed(tmp_path: Path) -> None:
    """No target at all, and a target of another job, set it off."""
    firing = {name: ON_SILENCE[name] for name in ("NotScraped", "Silent")}
    assert promtool(tmp_path, _story({}, 10, firing), _story({'up{job="node"}': "1x30"}, 10, firing)) == ""


def test_the_first_failed_call_fires(tmp_path: Path) -> None:
    """A series that begins with its first count has not increased; the alarm fires for it, and stops."""
    failed = {'rpc_seconds_count{code="INTERNAL",rpc="AuthorizationService/Check"}': "_x9 1x20"}
    firing = {"CallsFail": {"instance": "one"}}
    stories = [
        _story({**HEALTHY, **failed}, minute, now) for minute, now in ((8, {}), (10, firing), (25, {}))
    ]
    assert promtool(tmp_path, *stories) == ""


def test_a_wrong_story_is_found(tmp_path: Path) -> None:
    """So that the tests above mean something."""
    assert "SessauthBrakeIsSet" in promtool(
        tmp_path, _story(HEALTHY, 10, {"BrakeIsSet": {"instance": "one"}})
    )
