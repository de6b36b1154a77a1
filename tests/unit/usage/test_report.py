"""The report of a session, and of several of one purpose; its table, its JSON and its picture."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessauth.cli.render.usage import report_lines, report_of, write_svg
from sessauth.errors import UsageError
from sessauth.reasons import Reason
from sessauth.scopes.scope import Scope
from sessauth.scopes.segment import Segment
from sessauth.usage import SessionUsage
from sessauth.usage.generalize import Fit
from sessauth.usage.grants import CEILING, MINTED, GrantLayer
from sessauth.usage.report import UsageReport
from sessauth.usage.svg import picture
from tests.support.hidden import hides
from tests.support.usage_example import CEILING as SCOPES
from tests.support.usage_example import OPENED_MS, session, used_session

NOW_MS = OPENED_MS + 7_200_000
SVG = "{http://www.w3.org/2000/svg}"


def report() -> UsageReport:
    """Return the report of the story."""
    return report_of([used_session()], NOW_MS)


def test_the_report_says_what_was_granted_and_what_was_used() -> None:
    """Scopes, time and denials, with numbers that can be counted by hand."""
    told = report().to_dict()
    ceiling, minted = told["layers"]  # type: ignore[misc]
    (time,) = told["sessions"]  # type: ignore[misc]

    assert (ceiling["scopes_granted"], ceiling["scopes_used"]) == (len(SCOPES), 4)
    assert ceiling["scopes_never_used"] == [SCOPES[2], SCOPES[5], SCOPES[6]]
    assert minted["kind"] == "minted" and minted["scopes_used"] == 2
    assert (time["granted_ms"], time["lived_ms"], time["needed_ms"]) == (3_600_000, 1_200_000, 780_000)
    assert time["share"] == 0.2167
    assert {row["reason"]: row["calls"] for row in told["denied"]} == {  # type: ignore[attr-defined]
        "OUT_OF_SCOPE": 2,
        "CONDITION_FAILED": 1,
        "SESSION_ENDED": 1,
    }
    assert told["incomplete"] == []


def test_the_report_says_what_arguments_were() -> None:
    """Per kind of call: present and absent, values and ranges."""
    (ceiling,) = report().ceilings
    kinds = ceiling.scopes[0].to_dict()["kinds"]
    listed = next(kind for kind in kinds if kind["resource"] == "mcp/github/list_issues")  # type: ignore[attr-defined]
    page = next(each for each in listed["arguments"] if each["path"] == "page")

    assert (page["present"], page["absent"], page["least"], page["most"]) == (4, 0, "1", "4")
    assert page["types"] == {"number": 4}


def test_the_report_is_json_and_the_same_each_time() -> None:
    """Stable, so that two reports can be compared line by line."""
    assert json.dumps(report().to_dict()) == json.dumps(report().to_dict())


def test_sessions_of_one_purpose_are_told_together() -> None:
    """Equal ceilings meet; each session keeps its time; a suggestion is for all of them."""
    first, usage = used_session()
    second = replace(first, id=b"second-of-tests!", opened_at_ms=OPENED_MS + 60_000)
    wider = session([*SCOPES, "read:extra"], id=b"third-of-tests!!")
    told = UsageReport.of(
        [(first, usage), (second, used_session()[1]), (wider, SessionUsage())], now_ms=NOW_MS
    )

    assert [(len(each.scopes), each.sessions) for each in told.ceilings] == [(7, 2), (8, 1)]
    assert told.usage.allowed.calls == 2 * usage.allowed.calls
    assert [each.needed_ms for each in told.sessions] == [780_000, 720_000, 0]
    assert told.ceilings[0].suggestions[0].scopes and not told.ceilings[1].suggestions[0].scopes


def test_a_session_without_a_call_has_a_report() -> None:
    """Nothing used, nothing suggested, no division by nothing."""
    told = report_of([(session((), expires_at_ms=OPENED_MS), SessionUsage())], NOW_MS)

    assert told.to_dict()["layers"] == []
    assert "0 calls allowed" in "\n".join(report_lines(told))
    assert ElementTree.fromstring(picture(told)).tag == f"{SVG}svg"
    with pytest.raises(UsageError, match="no session"):
        report_of([], NOW_MS)


def test_the_table_is_for_people() -> None:
    """Each part has its title; hostile texts are escaped; all fits can be shown."""
    lines = "\n".join(report_lines(report()))
    exact = "\n".join(report_lines(report(), Fit.EXACT))

    for title in (
        "time",
        "granted, ceiling",
        "suggested, ceiling, kinds",
        "used",
        "denied",
        "wanted and not granted",
    ):
        assert f"\n{title}" in lines
    assert "never" in lines and "22 %" in lines
    loose = "\n".join(report_lines(report(), Fit.LOOSE))
    assert "page in [1, 2, 3, 4]" in exact and "page >= 1" in loose
    assert "\x1b" not in lines + exact


def test_what_is_not_complete_is_said() -> None:
    """Lost decisions and detail that was given up stand in every form of the report."""
    told, usage = used_session()
    usage.lost = 3
    usage.coarsen()
    made = report_of([(told, usage)], NOW_MS)

    assert "3 decisions were lost" in "\n".join(report_lines(made))
    assert "3 decisions were lost" in picture(made)
    assert len(made.to_dict()["incomplete"]) == 2  # type: ignore[arg-type]


def test_the_picture_is_written_and_a_folder_is_refused(tmp_path: Path) -> None:
    """A file, or one typed error that names the option."""
    file = tmp_path / "report.svg"
    write_svg(report(), file)

    assert ElementTree.fromstring(file.read_text(encoding="utf-8")).get("viewBox")
    with pytest.raises(UsageError, match="--svg"):
        write_svg(report(), tmp_path)


def test_the_picture_shows_every_scope_and_no_value_of_an_argument() -> None:
    """Bars for used scopes, a dashed one for each never used; values are for those who ask for JSON."""
    root = ElementTree.fromstring(picture(report()))
    css = [each.get("class") for each in root.iter(f"{SVG}rect")]
    words = "".join(root.itertext())

    assert css.count("never") == 4
    assert all(scope in words for scope in SCOPES)
    assert "see the report" not in words
    assert "prefers-color-scheme" in words


def test_the_picture_marks_what_observe_mode_alone_allowed() -> None:
    """A colour of its own, beside what is suggested for minted scopes; only if there are such calls."""
    told, usage = session(["read:mail/**"], observe=True), SessionUsage()
    layer = GrantLayer(CEILING, [Scope.parse("read:mail/**")])
    minted = GrantLayer(MINTED, [Scope.parse("read:**"), Scope.parse("write:** free *")])
    calls = [("read", "mail/1", None), ("read", "desk/1", (0, "")), ("write", "desk/<b>", (0, "label"))]
    for action, resource, refused in calls:
        positions = (*minted.matching_positions(action, resource),)
        positions += () if refused else layer.matching_positions(action, resource)
        usage.observe(
            action, resource, b"", at_ms=OPENED_MS, matched=positions, minted=minted, refused=refused
        )
    root = ElementTree.fromstring(picture(report_of([(told, usage)], NOW_MS)))
    css = [each.get("class") for each in root.iter(f"{SVG}rect")]
    words = [each.text or "" for each in root.iter(f"{SVG}text")]

    # Two rows outside of the ceiling, and as many among all that was used.
    assert css.count("observed") == 4
    assert "observe mode: 1 of 1 session(s); it alone allowed 2 calls" in words
    at = words.index("write:desk/<b>  argument label")
    assert words[at + 1] == "1" and words[at + 2].startswith("minted: write:desk/")
    assert "read:desk/1" in words
    assert "observed" not in {each.get("class") for each in ElementTree.fromstring(picture(report())).iter()}


def test_the_picture_says_what_is_not_suggested() -> None:
    """A call outside of the ceiling for which no minted scope is known."""
    told, usage = session(["read:mail/**"], observe=True), SessionUsage()
    usage.observe("read", "desk/1", b"", at_ms=OPENED_MS, refused=(0, ""))
    words = list(ElementTree.fromstring(picture(report_of([(told, usage)], NOW_MS))).itertext())

    assert "not suggested" in words


HOSTILE = st.text(
    alphabet=st.one_of(
        st.sampled_from("<>&\"'\x00\x1b\u202e\ufffe\u2028é😀]]>"), st.characters(exclude_categories=["Cs"])
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(HOSTILE, HOSTILE, st.sampled_from(Reason))
def test_hostile_texts_stay_texts(purpose: str, name: str, reason: Reason) -> None:
    """Valid XML with no element of theirs, and no control character on a terminal."""
    told, usage = session(["read:**"], purpose=purpose, subject=purpose), SessionUsage()
    layer = GrantLayer(CEILING, [Scope.on("read", Segment.rest())])
    arguments = json.dumps({name: name}).encode()
    usage.observe(
        "read", name, arguments, at_ms=OPENED_MS, matched=layer.matching_positions("read", "a", arguments)
    )
    usage.observe("read", name, b"", at_ms=OPENED_MS, reason=reason)
    usage.observe(name, purpose, b"", at_ms=OPENED_MS, refused=(0, name))
    made = report_of([(told, usage)], NOW_MS)
    root = ElementTree.fromstring(picture(made))

    assert {each.tag.removeprefix(SVG) for each in root.iter()} <= {"svg", "title", "style", "rect", "text"}
    assert not any(map(hides, report_lines(made)))
    assert json.dumps(made.to_dict())
