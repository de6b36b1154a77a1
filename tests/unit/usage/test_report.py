"""The report of a session, and of several of one purpose; its table, its JSON and its page."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessauth.cli.render.usage import report_lines, report_of, write_html
from sessauth.console.pages import report_page
from sessauth.errors import UsageError
from sessauth.reasons import Reason
from sessauth.scopes.parts import Segment
from sessauth.scopes.scope import Scope
from sessauth.usage import SessionUsage
from sessauth.usage.profile import CEILING, MINTED, GrantLayer
from sessauth.usage.report import UsageReport
from sessauth.usage.tighten import Fit
from tests.support.hidden import hides
from tests.support.usage_example import CEILING as SCOPES
from tests.support.usage_example import OPENED_MS, session, used_session

NOW_MS = OPENED_MS + 7_200_000


class Page(HTMLParser):
    """The elements, rows and texts of a page."""

    def __init__(self, text: str) -> None:
        """Read a page."""
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.rows: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the element and its attributes; begin a row."""
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "tr":
            self.rows.append("")

    def handle_data(self, data: str) -> None:
        """Add a text to its row."""
        if self.rows:
            self.rows[-1] += data


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
    assert "<b>0</b> calls allowed" in report_page(told)
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
    assert "3 decisions were lost" in report_page(made)
    assert len(made.to_dict()["incomplete"]) == 2  # type: ignore[arg-type]


def test_the_page_is_written_for_its_owner_and_a_folder_is_refused(tmp_path: Path) -> None:
    """A file that nobody else may read, or one typed error that names the option."""
    file = tmp_path / "report.html"
    write_html(report(), file)

    assert file.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert file.stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="--html"):
        write_html(report(), tmp_path)


def test_the_page_shows_every_scope_and_loads_nothing() -> None:
    """Granted, used and suggested side by side; no script, and no address of anything to load."""
    text = report_page(report(), Fit.EXACT)
    page = Page(text)

    shown = "".join(page.rows)
    assert all(scope in shown for scope in SCOPES)
    assert sum(row.count("never") for row in page.rows) == 4
    assert "page in [1, 2, 3, 4]" in shown and "page >= 1" in report_page(report(), Fit.LOOSE).replace(
        "&gt;", ">"
    )
    assert not page.tags & {"script", "link", "img", "form", "a"}
    assert not page.attributes & {"src", "href", "style", "onload"}
    assert "default-src 'none'" in text


def test_the_page_lists_calls_that_observe_mode_alone_allowed() -> None:
    """Each beside the scope that is suggested for tokens, or with the fact that none is."""
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
    usage.observe("delete", "desk/1", b"", at_ms=OPENED_MS, refused=(0, ""))
    text = report_page(report_of([(told, usage)], NOW_MS))
    rows = Page(text).rows

    assert "<b>3</b> allowed by observe mode alone" in text and "1 of 1 sessions in observe mode" in text
    (row,) = [row for row in rows if row.startswith("write:desk/<b> argument label")]
    assert "1write:desk/" in row
    assert any(row.startswith("delete:desk/1") and "not suggested" in row for row in rows)
    assert "observe mode" not in report_page(report())


PAGE_TAGS = {
    *("html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "h3", "p", "span", "b", "div"),
    *("table", "thead", "tbody", "tr", "th", "td", "code", "bdi", "svg", "rect"),
}
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
    """No element of theirs in the page, and no control character on a terminal."""
    told, usage = session(["read:**"], purpose=purpose, subject=purpose), SessionUsage()
    layer = GrantLayer(CEILING, [Scope.on("read", Segment.rest())])
    arguments = json.dumps({name: name}).encode()
    usage.observe(
        "read", name, arguments, at_ms=OPENED_MS, matched=layer.matching_positions("read", "a", arguments)
    )
    usage.observe("read", name, b"", at_ms=OPENED_MS, reason=reason)
    usage.observe(name, purpose, b"", at_ms=OPENED_MS, refused=(0, name))
    made = report_of([(told, usage)], NOW_MS)
    page = Page(report_page(made))

    assert page.tags <= PAGE_TAGS
    assert not any(map(hides, report_lines(made)))
    assert json.dumps(made.to_dict())
