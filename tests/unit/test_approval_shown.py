"""The display of a call for a person: everything shows, and nothing pretends to be something else."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessauth.approvals.request import ApprovalRequest
from sessauth.errors import InvalidApproval
from sessauth.model.approval import ApprovalCharge
from sessauth.scopes.safe_text import (
    is_plain,
    json_lines,
    mixes_scripts,
    moment_text,
    read_arguments,
    visible,
)
from sessauth.scopes.value import Number
from tests.support.approvals import held, record, request_digest

ESC = "\x1b"


def shown(action: str = "deploy", resource: str = "prod/api", arguments: Any = None, **changes: Any) -> str:
    """The text of a request, with a digest that fits."""
    data = b"" if arguments is None else json.dumps(arguments, ensure_ascii=False).encode()
    subject, purpose = changes.pop("subject", ""), changes.pop("purpose", "")
    asked = record(
        action=action,
        resource=resource,
        arguments=data,
        request_digest=request_digest(action, resource, data),
        **changes,
    )
    return ApprovalRequest(asked, subject, purpose).render()


def test_everything_that_is_signed_and_who_asks_is_shown() -> None:
    """Call, session, epoch, scope, digest, id, keys with who signed, labels, gateway, end."""
    asked = held("ann")
    text = ApprovalRequest(asked, "agent 7", "ticket 12").render()

    for part in (
        *('"deploy"', '"prod/api"', '"version": "1.2"', '"gateway-1"', '"planner" > "worker"'),
        *('"agent 7"', '"ticket 12"', "epoch 3", "block 0, scope 1", "1 of 2", "(signed)"),
        *(asked.id.hex(), asked.session_id.hex(), asked.block_id.hex(), asked.request_digest.hex()),
        moment_text(asked.expires_at_ms),
    ):
        assert part in text
    assert text.count("key  ") == 3


SPENT = ApprovalCharge("trip\x1b", "EUR", bytes(32), Number(8), Number(10))


@pytest.mark.parametrize(
    ("remaining", "said"),
    [
        ((Number(9, 500_000_000),), ': 8 "EUR" for this call, 9.5 of 10 left\n'),
        ((Number(2),), ': 8 "EUR" for this call, 2 of 10 left: too little\n'),
        ((), ': 8 "EUR" for this call, of 10 in all\n'),
    ],
)
def test_the_scope_and_the_remaining_budget_are_shown(remaining: tuple[Number, ...], said: str) -> None:
    """A person reads what allows the call, and if it can be paid; texts of the token's maker are escaped."""
    scope = 'pay:desk/** where amount <= 50 needs budget("trip", 10, "EUR", amount)'
    request = ApprovalRequest(record(scope_text=scope, charges=(SPENT,)), remaining=remaining)

    assert f"\n           {scope}\n" in request.render()
    assert said in request.render() and ESC not in request.render()
    assert ESC not in ApprovalRequest(record(scope_text=f"pay:{ESC}[2K")).render()
    assert request.to_dict()["charges"] == [
        {
            **{"budget": "trip\x1b", "unit": "EUR", "amount": "8", "limit": "10"},
            "remaining": str(remaining[0]) if remaining else None,
        }
    ]


def test_the_digest_that_is_shown_is_computed() -> None:
    """A record that claims another digest does not get to show it."""
    text = ApprovalRequest(record(request_digest=bytes(32))).render()

    assert bytes(32).hex() not in text


@pytest.mark.parametrize(
    "hostile",
    [
        "prod\u202egpj.exe",
        "a\u2066b\u2069",
        f"{ESC}[2K{ESC}[1A{ESC}[32mapproved",
        "one\nresource   other",
        "one\rtwo",
        "tab\there",
        "null\x00",
        "delete\x7f",
        "bell\x07\x9b",
        "zero\u200bwidth\u2060\ufeff",
        "line\u2028separator\u0085",
        "soft\u00adhyphen",
        "tags\U000e0041\U000e0042",
        "filler\u3164\u115f\u2800",
        "variation\ufe0f\U000e0101",
        "mongolian\u180b\u180c\u180d\u180f",
        "khitan\U00016fe4",
        "null note\U0001d159",
        "no\u00a0break",
    ],
)
def test_hostile_text_is_escaped_wherever_it_stands(hostile: str) -> None:
    """Each line stays ours: resource, arguments, names, labels, gateway, subject and purpose are escaped."""
    plain = shown("deploy", "x", {"x": "x", "y": ["x"]}, labels=("x",), gateway="x", subject="x", purpose="x")
    text = shown(
        "deploy",
        hostile,
        {hostile: hostile, "y": [hostile]},
        labels=(hostile,),
        gateway=hostile,
        subject=hostile,
        purpose=hostile,
    )

    assert len(text.splitlines()) == len(plain.splitlines())
    assert all(char.isprintable() for char in text.replace("\n", ""))
    for char in hostile:
        if not char.isascii():
            assert char not in text


def test_an_escape_and_its_look_alike_differ() -> None:
    """A text that spells an escape is told from the character itself."""
    assert visible("\\u202e") == '"\\\\u202e"'
    assert visible("\u202e") == '"\\u202e"'
    assert visible('say "yes"') == '"say \\"yes\\""'


def test_padding_can_not_push_text_out_of_sight() -> None:
    """The third space of a row and all behind it are written out."""
    assert visible("a  b") == '"a  b"'
    assert visible("a" + " " * 5 + "b") == '"a  ' + "\\u0020" * 3 + 'b"'


def test_marks_do_not_pile_up() -> None:
    """One mark on a letter is a letter; more, or one on nothing, is written out."""
    assert visible("e\u0301") == '"e\u0301"'
    assert visible("e\u0301\u0301\u0301") == '"e\u0301\\u0301\\u0301"'
    assert visible("\u0301e") == '"\\u0301e"'
    # Marks without a class, as of Thai: a syllable has up to two.
    assert visible("\u0e01\u0e34\u0e48") == '"\u0e01\u0e34\u0e48"'
    assert visible("\u0e01" + "\u0e34" * 4) == '"\u0e01\u0e34\u0e34\\u0e34\\u0e34"'
    assert visible("\u0e34") == '"\\u0e34"'


def test_right_to_left_text_is_shown_twice() -> None:
    """Escaped where it stands, so that nothing beside it moves, and once more to be read."""
    text = shown(arguments={"to": "\u05d0\u05d1 100", "amount": 5})
    lines = text.splitlines()

    assert '  "to": "\\u05d0\\u05d1 100",' in [line[2:] for line in lines]
    assert "  | \u05d0\u05d1 100" in lines
    assert sum("\u05d0" in line for line in lines) == 1


def test_numbers_are_shown_as_they_were_written() -> None:
    """Not rounded, not shortened: what a tool gets may depend on it."""
    written = b'{"a": 1.10, "b": 1e3, "c": 100000000000000000000001, "d": -0, "e": 0.1000000000000000055511}'

    assert json_lines(read_arguments(written)) == [
        "{",
        '  "a": 1.10,',
        '  "b": 1e3,',
        '  "c": 100000000000000000000001,',
        '  "d": -0,',
        '  "e": 0.1000000000000000055511',
        "}",
    ]


def test_a_number_and_a_text_of_digits_differ() -> None:
    """The text has quotes."""
    assert json_lines(read_arguments(b'{"a": 1, "b": "1"}'))[1:3] == ['  "a": 1,', '  "b": "1"']


@pytest.mark.parametrize("arguments", [b"", b"{}", b" {} "])
def test_no_arguments_are_shown_as_none(arguments: bytes) -> None:
    """An empty object stands on the line."""
    text = ApprovalRequest(record(arguments=arguments)).render()

    assert "arguments  {}" in text.splitlines()


def test_a_denial_says_who_and_why() -> None:
    """Both stand in quotes, like every text of others."""
    from sessauth.model.approval import ApprovalStatus

    text = ApprovalRequest(record(status=ApprovalStatus.DENIED, denied_by="bob", reason="no\n")).render()

    assert 'denied by  "bob": "no\\n"' in text.splitlines()


@pytest.mark.parametrize(
    "arguments",
    [
        *(
            b'{"a":1,"a":2}',
            b'{"a":1,"\\u0061":2}',
            b'{"a":NaN}',
            b'{"a":"\\ud800"}',
            b"[]",
            b"\xef\xbb\xbf{}",
        ),
        b'{"a":' + b"[" * 32 + b"]" * 32 + b"}",
        b'{"a":[' + b",".join([b"0"] * 10_000) + b"]}",
    ],
)
def test_what_a_check_would_deny_is_not_shown(arguments: bytes) -> None:
    """An approver reads what the kernel reads: what is malformed to it can't be shown, nor signed."""
    with pytest.raises(InvalidApproval, match="can't be shown"):
        ApprovalRequest(record(arguments=arguments)).render()


@pytest.mark.parametrize(
    ("at_ms", "text"),
    [
        (0, "1970-01-01 00:00:00 UTC"),
        (1_999, "1970-01-01 00:00:01 UTC"),
        (253_402_300_799_999, "9999-12-31 23:59:59 UTC"),
        (2**53 - 1, "9007199254740991 ms"),
    ],
)
def test_moments_are_never_rounded_up(at_ms: int, text: str) -> None:
    """A time of the format is shown to the second, or as a number beyond the calendar."""
    assert moment_text(at_ms) == text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_what_is_shown_is_the_whole_of_the_arguments(arguments: dict[str, Any]) -> None:
    """The shown lines are JSON again, with the same content, and every character of them shows."""
    data = json.dumps(arguments).encode()
    lines = json_lines(read_arguments(data))

    assert json.loads("\n".join(lines)) == arguments
    for line in lines:
        assert line.isprintable()
        assert not any(unicodedata.bidirectional(char) in ("R", "AL", "AN") for char in line)


def test_a_text_is_plain_only_if_nothing_of_it_misleads() -> None:
    """Blank look-alikes, piled marks, reordered letters, padding and texts in quotes are not plain."""
    for text in ("agent:one", "Zoe\u0301 \u00fcber", 'ticket "4711"', "", "\u65e5\u672c"):
        assert is_plain(text), text
    piled = "a" + "\u0301" * 60
    hidden = (
        "\u2800",
        "\u3164",
        "\u115f",
        "pay\u034froll",
        "a\ufe0f",
        "a\u20dd",
        "\u05d0\u05d1",
        "\u202e",
        "\u200b",
    )
    for text in (piled, *hidden, " a", "a ", "a  b", "a\nb", '"agent:good"'):
        assert not is_plain(text), ascii(text)


def test_a_word_of_several_scripts_is_found() -> None:
    """Letters that look alike are of one script in a word; words of different ones may follow each other."""
    for text in ("p\u0430yroll", "read:\u0410dmin", "\u03bfperator1"):
        assert mixes_scripts(text), ascii(text)
    for text in ("payroll", "\u043f\u0440\u0438\u0432\u0435\u0442 agent", "\u65e5\u672cABC", "a1_\u0431", ""):
        assert not mixes_scripts(text), ascii(text)
