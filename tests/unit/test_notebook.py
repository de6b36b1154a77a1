"""Tables of sessions, decisions, reports and suggestions in a notebook, safe whatever agents wrote."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import example, given
from hypothesis import strategies as st

from sessauth.client import Missing, SessionReport, VerifierActivity
from sessauth.model.notebook import html_table
from sessauth.usage.report import UsageReport
from sessauth.usage.session_usage import SessionObservation
from sessauth.usage.tighten import Fit
from tests.support.memory_fixture import MemoryFixture
from tests.support.usage_example import session, used_session


class Read(HTMLParser):
    """The elements and the texts of a piece of HTML, and the elements that are not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element; those without content are not closed."""
        self.elements.add(tag)
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the innermost element, which must be this one."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.texts.append(data)


TABLE = {"table", "caption", "b", "thead", "tbody", "tr", "th", "td", "br"}


@given(st.text(), st.text(), st.lists(st.text()))
@example("<script>alert(1)</script>", "</td></tr></table><img src=x onerror=y>", ["a\u202eb", "&lt;"])
def test_no_text_leaves_its_cell(title: str, cell: str, lines: list[str]) -> None:
    """Texts stay texts, and every element is one of a table, closed in order."""
    read = Read(html_table(title, [(cell, lines)], (title, cell)))

    assert read.elements <= TABLE
    assert read.open == []
    assert not any(char in text for text in read.texts for char in "\u202e\u3164\x1b")


def test_a_session_is_a_table_of_its_terms_with_scopes_as_text() -> None:
    """Terms that it does not have are left out."""
    read = Read(session(subject="agent <b>", purpose="")._repr_html_())

    assert read.texts[0] == f"Session {session().id.hex()}"
    assert "agent <b>" in read.texts
    assert "purpose" not in read.texts
    assert "read:mcp/github/**" in read.texts


def test_a_decision_shows_its_answer_and_why(memory: MemoryFixture) -> None:
    """An allow and a denial of a check in this process."""
    token = memory.mint("read:files/**")
    allowed = Read(memory.check(token, "read", "files/a")._repr_html_())
    denied = Read(memory.check(token, "write", "files/a")._repr_html_())

    assert allowed.texts[0] == "ALLOWED"
    assert (denied.texts[0], denied.texts[2]) == ("DENIED", "OUT_OF_SCOPE")
    assert memory.check(token, "write", "files/a").explain() in denied.texts


def test_a_report_and_a_suggestion_are_tables() -> None:
    """Calls by verifier, granted against used, and each granted scope with its suggestion."""
    used, usage = used_session()
    observation = SessionObservation(used.id, 13, 4)
    report = SessionReport(used, (), observation, (VerifierActivity("gw", 13, 4, 1),), (Missing.LOST,))
    compared = UsageReport.of([(used, usage)], now_ms=used.expires_at_ms)
    suggested = compared.ceilings[0].suggestion(Fit.KINDS)

    assert {"gw", "13", "4", "incomplete", "LOST"} <= set(Read(report._repr_html_()).texts)
    assert {"verdict", "granted against used", "never"} <= set(Read(compared._repr_html_()).texts)
    shown = Read(suggested._repr_html_()).texts
    assert {"tightened", "dropped", *map(str, suggested.scopes)} <= set(shown)
