"""Scope text: what it reads as and how that is printed, or that it is none."""

from __future__ import annotations

from tests.oracle.canonical import form, form_digest
from tests.oracle.forms import scope as require_scope
from tests.oracle.model import BILLION
from tests.oracle.scope_reader import BadScopeText, read_scope
from tests.oracle.scope_text import print_scope
from tests.oracle.text import BadText, encode_base64url
from tests.oracle.wire import Malformed, decode, encode
from tests.support.token_forger import Record

_KEY = '"' + "A" * 43 + '"'
_QUOTED = 'a:b where x == "{}"'

_DIGEST_OF_LONG = f'a:b where x == digest("{encode_base64url(form_digest(form("x" * 1025)))}")'
_DIGEST_OF_LIST = f'a:b where x == digest("{encode_base64url(form_digest(form([BILLION] * 1000)))}")'

# A comment, a text, and its printed form; "" where that is the text itself, None where it is no scope.
_TEXTS: tuple[tuple[str, str, str | None], ...] = (
    ("The least.", "a:b", ""),
    ("Actions stand without white space.", "a,b:c", ""),
    ("White space behind a comma of actions.", "a, b:c", None),
    ("Segments of each kind.", "*:a/b*/{c,d}/*/**", ""),
    ("A list of one.", "a:{x}", None),
    ("White space in a list of segments.", "a:{x, y}", None),
    ("Quotes that are not needed.", 'a:"b"/"c"*', "a:b/c*"),
    ("Quotes that are.", 'a:"b c"/"d,e"', ""),
    ("A character behind a prefix's star.", "a:b*c", None),
    ("White space at the end.", "a:b ", None),
    ("A tab is no white space.", "a:b\twhere x == 1", None),
    (
        "More white space than one.",
        "a:b  where  x  ==  1  and  y  in  [1,  2]",
        "a:b where x == 1 and y in [1, 2]",
    ),
    ("White space between not and in.", "a:b where x not   in [1]", "a:b where x not in [1]"),
    ("None between an operator and its value.", "a:b where x ==1", None),
    ("White space before a comma.", "a:b where x in [1 ,2]", None),
    ("A list of one for an operator that takes more.", 'a:b where x glob ["a"]', 'a:b where x glob "a"'),
    ("A list of one for in.", "a:b where x in [1]", ""),
    ("An empty list.", "a:b where x in []", None),
    (
        "Sources.",
        "a:b where args.x == 1 and session.y == 2 and tool.z == 3",
        "a:b where x == 1 and session.y == 2 and tool.z == 3",
    ),
    (
        "Names of sources.",
        'a:b where args == 1 and "tool".a == 2',
        "a:b where args == 1 and args.tool.a == 2",
    ),
    ("Names in quotes.", 'a:b where "a b".c == 1 and "d".e == 2', 'a:b where "a b".c == 1 and d.e == 2'),
    ("A letter is one of ASCII.", "a:b where \u00e9 == 1", None),
    ("Accessors, each, optional.", 'a:b where count(x?) == 1 and each(host(y)) == "h" and each(z) == 1', ""),
    ("A question mark behind the accessor.", "a:b where count(x)? == 1", None),
    ("present takes no question mark.", "a:b where x? present", None),
    (
        "Numbers in their shortest form.",
        "a:b where x in [1.50, -0, 1e2, 1E-9]",
        "a:b where x in [1.5, 0, 100, 0.000000001]",
    ),
    ("A number that is no value.", "a:b where x == 1e1000000000", None),
    (
        "Other numbers in their canonical form.",
        "a:b where x in [0.00000000010, 1E300, 48.8583701481230]",
        "a:b where x in [1e-10, 1e+300, 48.858370148123]",
    ),
    ("Elements.", 'a:b where f[].p under "src" and m[][]? == 1 free args.tool.x[], tool[]', ""),
    ("Elements of the session's facts.", "a:b where session.x[] == 1", None),
    ("Elements of a tool's property.", "a:b where tool.x[] == 1", None),
    ("Elements of nothing.", "a:b where [].p == 1", None),
    ("A number in the brackets.", "a:b where f[0].p == 1", None),
    ("A budget over elements.", 'a:b needs budget("b", 5, f[].n)', None),
    ("A list.", 'a:b where x == [ 1.0, "a" ]', 'a:b where x == [1,"a"]'),
    ("An object.", 'a:b where x != {"b":[], "a":null}', 'a:b where x != {"a":null,"b":[]}'),
    ("What would not show.", 'a:b where x == ["\u202e\u007f"]', 'a:b where x == ["\\u202e\\u007f"]'),
    ("A name twice.", 'a:b where x == {"a": 1, "a": 1}', None),
    ("null among others.", 'a:b where x in [null, "a", 1.50]', 'a:b where x in [null, "a", 1.5]'),
    ("A list of lists.", "a:b where x in [[1], [2]]", ""),
    ("A list among beginnings.", "a:b where x starts_with [[1]]", None),
    ("An order of lists.", "a:b where x < [1]", None),
    ("null behind an accessor.", "a:b where count(x) == null", None),
    ("null and a fact.", "a:b where session.f == null", None),
    ("A digest.", f'a:b where x == digest("{"A" * 43}")', ""),
    ("A short digest.", f'a:b where x == digest("{"A" * 42}")', None),
    ("A long text.", f'a:b where x == "{"x" * 1025}"', _DIGEST_OF_LONG),
    ("A long beginning.", f'a:b where x starts_with "{"x" * 1025}"', None),
    ("A long list.", f"a:b where x == [{', '.join(['1'] * 1000)}]", _DIGEST_OF_LIST),
    ("No arguments.", "a:b where no  arguments", "a:b where no arguments"),
    ("No arguments, with a need.", "a:b where no arguments needs uses(1)", ""),
    ("No arguments, said otherwise.", "a:b where _ absent", "a:b where no arguments"),
    ("No arguments, and some.", "a:b where no arguments free x", None),
    ("No arguments, and a condition.", "a:b where no arguments and x == 1", None),
    ("An argument of that name.", "a:b where no == 1 and arguments == 2", ""),
    ("A fact.", "a:b where x == session.a_9", ""),
    ("A hyphen in a fact.", "a:b where x == session.a-b", None),
    ("A fact for an operator that takes none.", "a:b where x glob session.g", None),
    ("Free arguments.", "a:b where x == 1 free y,z.w", "a:b where x == 1 free y, z.w"),
    ("Free twice.", "a:b free x, x", None),
    ("All free.", "a:b where x == 1 free *", ""),
    (
        "Needs in any order, printed in one.",
        f'a:b needs budget("n",5,x), uses(3), approval(1,{_KEY})',
        f'a:b needs approval(1, {_KEY}), uses(3), budget("n", 5, x)',
    ),
    ("A need twice.", "a:b needs uses(1), uses(2)", None),
    ("The most uses.", "a:b needs uses(18446744073709551615)", ""),
    ("More uses than 64 bits.", "a:b needs uses(18446744073709551616)", None),
    ("A zero in front.", "a:b needs uses(01)", None),
    ("An int is no number with a point.", "a:b needs uses(1.0)", None),
    ("An int is no number with an exponent.", "a:b needs uses(1e1)", None),
    ("No uses.", "a:b needs uses(0)", None),
    ("A unit.", 'a:b needs budget("n", 5, "EUR", x)', ""),
    ("An empty unit is none.", 'a:b needs budget("n", 5, "", x)', 'a:b needs budget("n", 5, x)'),
    ("A quoted word that is the amount.", 'a:b needs budget("n", 5, "EUR")', 'a:b needs budget("n", 5, EUR)'),
    ("Free behind needs.", "a:b needs uses(1) free x", None),
    ("Escapes that have a letter.", _QUOTED.format(r"\"\\\/\b\f\n\r\t"), _QUOTED.format(r"\"\\/\b\f\n\r\t")),
    ("Escapes that are not needed.", _QUOTED.format(r"\u0061\u00e9"), _QUOTED.format("a\u00e9")),
    ("A control character that is not escaped.", _QUOTED.format("\x01"), None),
    ("U+007F and U+0085.", _QUOTED.format("\x7f\x85"), _QUOTED.format(r"\u007f\u0085")),
    ("Spaces but U+0020.", _QUOTED.format(" \u00a0\u2003\u3000"), _QUOTED.format(r" \u00a0\u2003\u3000")),
    (
        "What turns or hides.",
        _QUOTED.format("\u202e\u200b\u00ad\ufeff"),
        _QUOTED.format(r"\u202e\u200b\u00ad\ufeff"),
    ),
    ("Private use.", _QUOTED.format("\ue000\U000f0000"), _QUOTED.format(r"\ue000\udb80\udc00")),
    ("Plane 14.", _QUOTED.format("\U000e0100"), _QUOTED.format(r"\udb40\udd00")),
    ("Letters, marks and pictures.", _QUOTED.format("\u0416\u0301\u4e2d\U0001f511"), ""),
    ("Assigned by Unicode 16, or by none yet.", _QUOTED.format("\u1c89\u0378"), ""),
    ("A lone surrogate.", _QUOTED.format(r"\ud800"), None),
    ("A bare segment with what hides.", "a:b\u200b", r'a:"b\u200b"'),
)


def read(text: str) -> Record:
    """Return the oracle's reading of a text: the encoded scope and its printed form, or the problem."""
    try:
        encoded = encode("Scope", read_scope(text))
        record = decode("Scope", encoded)
        require_scope(record)
    except (BadScopeText, BadText, Malformed, UnicodeEncodeError):
        return {"problem": "malformed"}
    return {"encoded_hex": encoded.hex(), "printed": print_scope(record)}


def content() -> Record:
    """The content of ``scope_texts.json``."""
    vectors = []
    for comment, text, printed in _TEXTS:
        found = read(text)
        if found.get("printed") != (text if printed == "" else printed):
            raise AssertionError(f"{text}: expected {printed}, the oracle gives {found}")
        vectors.append({"name": comment.rstrip("."), "text": text, "expected": found})
    return {"title": "Scope text", "format": "docs/token-format.md, version 1", "vectors": vectors}
