"""Tables for notebooks: IPython shows the result of an object's ``_repr_html_`` in the place of its ``repr``.

A notebook is read by a person, and the texts are those of agents. So each is escaped as HTML, and one that
could mislead is quoted with escapes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from ..scopes.safe_text import is_plain, visible


def html_table(title: str, rows: Iterable[Sequence[object]], headers: Sequence[str] = ()) -> str:
    """Return a table: a title, headers if there are any, and rows; in a row a list is one item a line."""
    head = "".join(f"<th>{_text(each)}</th>" for each in headers)
    body = "".join(
        "<tr>" + "".join(f'<td style="text-align:left">{_cell(each)}</td>' for each in row) + "</tr>"
        for row in rows
    )
    return (
        f"<table><caption style='text-align:left'><b>{_text(title)}</b></caption>"
        + (f"<thead><tr>{head}</tr></thead>" if headers else "")
        + f"<tbody>{body}</tbody></table>"
    )


def _cell(value: object) -> str:
    return "<br>".join(map(_text, value)) if isinstance(value, list | tuple) else _text(value)


def _text(value: object) -> str:
    text = str(value)
    return escape(text if is_plain(text) else visible(text))
