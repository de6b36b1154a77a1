"""Templates, the filters of their words, and pages that are complete answers.

Every text that an agent, a holder or a caller wrote passes ``stated``: it is escaped as HTML, each character
that could mislead is shown as an escape, and the direction of the text around it is isolated.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from ..clock import Clock, utc_text
from ..scopes.safe_text import is_plain, mixes_scripts, visible
from ..usage.profile import is_for
from ..usage.report import LayerUse, UsageReport
from ..usage.tighten import Fit
from .logins import Login
from .recent import Reach

FOLDER: Final = Path(__file__).parent
MAX_TEXT_CHARS: Final = 300
NAVIGATION: Final = (
    ("Sessions", "/"),
    ("Approvals", "/approvals"),
    ("Cut off", "/cut-off"),
    ("Decisions", "/decisions"),
    ("Hosts", "/hosts"),
    ("Identity", "/identity"),
    ("Token", "/token"),
)
FORM_TOKEN: Final = "form_token"
_CLAMPED_CHARS: Final = 40
_MIXED: Final = Markup(
    ' <span class="pill denied" title="A word has letters of several scripts.">mixed scripts</span>'
)
_UNITS: Final = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"))


def stated(text: object, most: int = MAX_TEXT_CHARS) -> Markup:
    """Return a text that others chose, safe to read: as it is, or quoted with escapes.

    A word with letters of several scripts that look alike is marked.
    """
    whole = str(text)
    short = whole if len(whole) <= most else whole[: most - 1] + "…"
    shown = short if is_plain(short) else visible(short)
    # Tables show two lines of a long text, and all of it under the pointer.
    title = Markup(' title="{}"').format(shown) if len(shown) > _CLAMPED_CHARS else ""
    mark = _MIXED if mixes_scripts(short) else ""
    return Markup("<bdi{}>{}</bdi>{}").format(title, shown, mark)


def span(ms: int) -> str:
    """Return a length of time in at most two units, such as ``1h 5m``."""
    if ms < 1000:
        return "0s"
    parts = []
    for size, unit in _UNITS:
        count, ms = divmod(ms, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def moment(at_ms: int) -> str:
    """Return a time in ms since 1970 as UTC to the second; empty for 0."""
    return utc_text(at_ms, "%Y-%m-%d %H:%M:%S") if at_ms else ""


def moment_element(at_ms: int) -> Markup:
    """Return a time in ms since 1970 as an element; the page's script adds the time of the browser's zone."""
    if not at_ms:
        return Markup()
    return Markup('<time datetime="{}">{}</time>').format(instant(at_ms), moment(at_ms))


def instant(at_ms: int) -> str:
    """Return a time in ms since 1970 as programs read it, to the second in UTC."""
    return utc_text(at_ms, "%Y-%m-%dT%H:%M:%SZ")


def short_id(id_: bytes) -> str:
    """Return the first digits of an id, which commands accept."""
    return id_.hex()[:8]


def base_of(request: Request) -> str:
    """Return the beginning of the path of every page of the request's login, empty without one."""
    login: Login | None = getattr(request.state, "login", None)
    return login.base if login else ""


def token_field(value: str) -> Markup:
    """Return the hidden field of each form: the token of the login."""
    return Markup('<input type="hidden" name="{}" value="{}">').format(FORM_TOKEN, value)


def environment() -> Environment:
    """Return the templates of the console, with their filters."""
    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "stated": stated,
        "span": span,
        "moment": moment_element,
        "instant": instant,
        "short": short_id,
    }
    return made


def stylesheet() -> Markup:
    """Return the stylesheet, for a page that loads nothing."""
    return Markup((FOLDER / "static" / "console.css").read_text(encoding="utf-8"))


class Pages:
    """Renders templates with what every page needs."""

    def __init__(
        self,
        clock: Clock,
        *,
        allow_changes: bool,
        approver: str = "",
        approvals_only: bool = False,
        server: str = "",
    ) -> None:
        """Load the templates. ``approver``: the public key that signs here, empty if none does."""
        self._clock = clock
        # Replaced by that of the server that is asked.
        self.reach = Reach()
        self._environment = environment()
        self._environment.globals |= {
            "allow_changes": allow_changes,
            "approver": approver,
            "server": server,
            "nav": [("Approvals", "/approvals")] if approvals_only else NAVIGATION,
            "token_field": token_field,
        }

    def context(self, request: Request, **values: Any) -> dict[str, Any]:
        """Return the values for a template."""
        login = getattr(request.state, "login", None)
        return {
            "now_ms": self._clock.now_ms(),
            # As it was sent: the path of ``url`` is parsed again, and differs from it.
            "path": request.scope["path"],
            "query": request.url.query,
            "base": base_of(request),
            "form_token": login.form_token if login else "",
            "logged_in": login is not None,
            "reach": self.reach,
            "live": False,
            "at_ms": 0,
            **values,
        }

    def answer(self, request: Request, template: str, *, code: int = 200, **values: Any) -> HTMLResponse:
        """Return a page."""
        text = self._environment.get_template(template).render(self.context(request, **values))
        return HTMLResponse(text, code)

    def part(self, template: str, block: str, context: Mapping[str, Any]) -> str:
        """Return one block of a template, which a live page replaces."""
        loaded = self._environment.get_template(template)
        return "".join(loaded.blocks[block](loaded.new_context(dict(context))))

    def is_over(self, login: Login) -> bool:
        """Return True if a login has ended: by time, by a logout, or because there were too many."""
        return login.left or self._clock.now_ms() >= login.expires_at_ms

    def refused(self, request: Request, message: str, code: int = 403) -> HTMLResponse:
        """Return a page that says why nothing was done."""
        return self.answer(request, "message.html", code=code, title="Nothing was done", message=message)

    def expired(self, request: Request) -> HTMLResponse:
        """Return the page of those who are not logged in, with the way on."""
        return self.answer(request, "login.html", code=401)


def report_page(report: UsageReport, fit: Fit = Fit.KINDS) -> str:
    """Return a report as HTML. Every text that others chose is escaped."""
    usage = report.usage
    values = {
        "style": stylesheet(),
        "report": report,
        "observing": sum(each.session.observe for each in report.sessions),
        "observed_calls": sum(each.calls for _, each in usage.observed),
        "denied_calls": sum(each.calls for _, each in usage.denied),
        "layers": [used_layer(layer, fit) for layer in report.layers],
        "outside": _outside(report, fit),
        "used": sorted(usage.calls, key=lambda row: -row[1].calls),
        "denied": sorted(usage.denied, key=lambda row: -row[1].calls),
    }
    return environment().get_template("report.html").render(values)


def _outside(report: UsageReport, fit: Fit) -> list[dict[str, Any]]:
    """Return the kinds of calls that observe mode alone allowed, each with a scope suggested for tokens."""
    minted = [scope for layer in report.minted for scope in layer.suggestion(fit).scopes]
    return [
        {
            "call": f"{action}:{resource}",
            "argument": argument,
            "calls": each.calls,
            "suggested": next((str(scope) for scope in minted if is_for(scope, action, resource)), ""),
        }
        for (_, action, resource, argument), each in sorted(
            report.usage.observed, key=lambda row: -row[1].calls
        )
    ]


def used_layer(layer: LayerUse, fit: Fit = Fit.KINDS) -> dict[str, Any]:
    """Return the values of ``grants.html``: each granted scope, its calls, and its part of the suggestion."""
    suggestion = layer.suggestion(fit)
    parts = {part.index: part for part in suggestion.parts}
    scopes = [
        {
            "text": str(use.scope),
            "calls": use.span.calls,
            "last_ms": use.span.last_ms,
            "outcome": part.outcome if part else "",
            "enough": [str(each) for each in part.scopes] if part else (),
        }
        for use, part in ((use, parts.get(index)) for index, use in enumerate(layer.scopes))
    ]
    return {
        "id": layer.layer.id,
        "title": "ceiling" if layer.layer.kind == "ceiling" else "minted into tokens",
        "ceiling": layer.layer.kind == "ceiling",
        "scopes": scopes,
        "most": max((use.span.calls for use in layer.scopes), default=0),
        "suggested": bool(suggestion.scopes) and any(part.outcome != "kept" for part in suggestion.parts),
        "why": suggestion.why,
    }
