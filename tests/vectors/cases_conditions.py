"""Conditions, values and the closed world: for each condition arguments that it holds for, and others."""

from __future__ import annotations

from collections.abc import Iterator

from tests.oracle.constants import Level, Reason
from tests.oracle.model import OracleRequest
from tests.oracle.scope_text import print_path
from tests.support.token_forger import Record, where
from tests.vectors.world import Case, allowed, ask, at_block, case, child, refused, root

# Condition, arguments that satisfy it, arguments that do not.
TABLE: list[tuple[str, list[str], list[str]]] = [
    (
        'a == "x"',
        ['{"a": "x"}', '{"a": "\\u0078"}'],
        ["", '{"a": "X"}', '{"a": 1}', '{"a": null}', '{"a": ["x"]}'],
    ),
    ('a == ""', ['{"a": ""}'], ['{"a": " "}', '{"a": null}', "{}"]),
    (
        "a == 1",
        ['{"a": 1}', '{"a": 1.0}', '{"a": 10e-1}', '{"a": 0.01E+2}'],
        ['{"a": "1"}', '{"a": true}', '{"a": 1.000000001}', '{"a": 1.0000000001}', '{"a": 1e300}'],
    ),
    (
        "a == 0",
        ['{"a": 0}', '{"a": -0}', '{"a": 0e99999999999}', '{"a": 0.000e-5}'],
        ['{"a": false}', '{"a": 1e-10}'],
    ),
    ("a == -0.000000001", ['{"a": -1e-9}'], ['{"a": 1e-9}']),
    (
        "a == 9223372036854775807.999999999",
        ['{"a": 9223372036854775807.999999999}'],
        ['{"a": 9223372036854775808}'],
    ),
    ("a == -9223372036854775808", ['{"a": -9223372036854775808}'], ['{"a": -9223372036854775808.000000001}']),
    ("a == true", ['{"a": true}'], ['{"a": false}', '{"a": 1}', '{"a": "true"}']),
    ("a == false", ['{"a": false}'], ['{"a": true}', '{"a": 0}', '{"a": null}']),
    ('a != "x"', ['{"a": "y"}', '{"a": ""}'], ['{"a": "x"}', '{"a": 1}', "{}", '{"a": null}']),
    (
        "a != 1",
        ['{"a": 2}', '{"a": 1e99}'],
        ['{"a": 1.0}', '{"a": "1"}', '{"a": 1e1000000000}', '{"a": true}'],
    ),
    ('a in ["x", "y"]', ['{"a": "y"}'], ['{"a": "z"}', '{"a": ["x"]}', "{}"]),
    ('a not in ["x", "y"]', ['{"a": "z"}'], ['{"a": "x"}', '{"a": 1}', '{"a": null}', "{}", '{"a": ["z"]}']),
    ("a not in [1, 2]", ['{"a": 3}', '{"a": 1e40}'], ['{"a": 2}', '{"a": "3"}']),
    ("a < 10", ['{"a": 9.999999999}', '{"a": -1}', '{"a": -1e30}'], ['{"a": 10}', '{"a": "9"}']),
    ("a <= 10", ['{"a": 10}'], ['{"a": 10.000000001}']),
    ("a > 1.5", ['{"a": 1.500000001}'], ['{"a": 1.5}', '{"a": true}']),
    ("a >= -3", ['{"a": -3}'], ['{"a": -3.000000001}']),
    (
        'a < "b"',
        ['{"a": "a"}', '{"a": ""}', '{"a": "azzz"}'],
        ['{"a": "b"}', '{"a": "ba"}', '{"a": "\u00e9"}'],
    ),
    ('a > "\ud7ff"', ['{"a": "\U00010000"}', '{"a": "\uffff"}'], ['{"a": "z"}']),
    (
        'a starts_with ["re:", "fw:"]',
        ['{"a": "re: x"}', '{"a": "fw:"}'],
        ['{"a": "Re: x"}', '{"a": "r"}', '{"a": 1}'],
    ),
    (
        'a glob "*.txt"',
        ['{"a": "x.txt"}', '{"a": ".txt"}'],
        ['{"a": "d/x.txt"}', '{"a": "x.txt.gz"}', '{"a": ""}'],
    ),
    (
        'a glob "src/**"',
        ['{"a": "src"}', '{"a": "src/a/b"}', '{"a": "src/"}'],
        ['{"a": "srcs"}', '{"a": "src/../etc"}', '{"a": "src/."}'],
    ),
    (
        'a glob "a*b*c/*"',
        ['{"a": "abc/"}', '{"a": "aXbYc/z"}', '{"a": "abcbc/z"}'],
        ['{"a": "acb/z"}', '{"a": "abc/.."}'],
    ),
    ('a glob "**"', ['{"a": ""}', '{"a": "a/b"}'], ['{"a": "a/./b"}', '{"a": ".."}']),
    ('a glob ["./x", "/y"]', ['{"a": "./x"}', '{"a": "/y"}'], ['{"a": "x"}', '{"a": "y"}']),
    (
        'a under "/srv/data"',
        ['{"a": "/srv/data"}', '{"a": "/srv/data/x"}'],
        [
            '{"a": "/srv/database"}',
            '{"a": "/srv/data/"}',
            '{"a": "/srv/data/../x"}',
            '{"a": "/srv/data//x"}',
            '{"a": "/srv/data/%2e"}',
            '{"a": "srv/data/x"}',
            '{"a": "/srv/data/a\\\\b"}',
            '{"a": "/srv/data/\\u0000"}',
        ],
    ),
    ('a under "/"', ['{"a": "/"}', '{"a": "/x"}'], ['{"a": "x"}', '{"a": "//"}', '{"a": ""}']),
    ('a under "docs"', ['{"a": "docs/x"}'], ['{"a": "/docs/x"}', '{"a": "docs/."}']),
    (
        'a cidr ["10.0.0.0/8", "2001:db8::/32"]',
        ['{"a": "10.9.9.9"}', '{"a": "::FFFF:10.9.9.9"}', '{"a": "::ffff:a09:909"}', '{"a": "2001:db8::9"}'],
        [
            '{"a": "11.0.0.0"}',
            '{"a": "10.0.0"}',
            '{"a": "10.0.0.01"}',
            '{"a": "[2001:db8::9]"}',
            '{"a": "10.0.0.0/8"}',
            '{"a": "::10.9.9.9"}',
            '{"a": " 10.9.9.9"}',
            '{"a": 10}',
        ],
    ),
    (
        'a not glob ["secret/**", "*.key"]',
        ['{"a": "docs/x"}', '{"a": ""}', '{"a": "secrets"}', '{"a": "d/x.key"}'],
        [
            '{"a": "secret"}',
            '{"a": "secret/x"}',
            '{"a": "x.key"}',
            '{"a": "docs/../secret/x"}',
            '{"a": "./secret"}',
            '{"a": ".."}',
            '{"a": 1}',
            '{"a": ["docs"]}',
            "{}",
        ],
    ),
    (
        'a not under ["/etc", "/srv/keys"]',
        ['{"a": "/srv/data"}', '{"a": "/etcetera"}', '{"a": "etc"}', '{"a": "/"}'],
        [
            '{"a": "/etc"}',
            '{"a": "/etc/passwd"}',
            '{"a": "/srv/keys/a/b"}',
            '{"a": "/srv/../etc"}',
            '{"a": "/srv//keys"}',
            '{"a": "/%65tc"}',
            '{"a": "/etc/"}',
            '{"a": ""}',
            '{"a": null}',
            "{}",
        ],
    ),
    ('a not under "/"', ['{"a": "x/y"}'], ['{"a": "/x"}', '{"a": "/"}', '{"a": "./x"}']),
    ('a? not under "/etc"', ["{}", '{"a": "/srv"}'], ['{"a": "/etc/x"}', '{"a": null}']),
    (
        'a not cidr ["10.0.0.0/8", "169.254.0.0/16", "fc00::/7"]',
        ['{"a": "11.0.0.1"}', '{"a": "2001:db8::9"}', '{"a": "::ffff:11.0.0.1"}'],
        [
            '{"a": "10.1.2.3"}',
            '{"a": "::ffff:169.254.169.254"}',
            '{"a": "fd00::1"}',
            '{"a": "localhost"}',
            '{"a": "10.1"}',
            '{"a": "11.0.0.01"}',
            '{"a": ""}',
            '{"a": 11}',
        ],
    ),
    (
        'host(a) not cidr "169.254.0.0/16"',
        ['{"a": "http://1.1.1.1/"}'],
        [
            '{"a": "http://169.254.169.254/"}',
            '{"a": "http://[::ffff:a9fe:a9fe]/"}',
            '{"a": "http://metadata/"}',
            '{"a": "169.254.169.255"}',
        ],
    ),
    ('each(a) not glob "x*"', ['{"a": []}', '{"a": ["y", "z"]}'], ['{"a": ["y", "x1"]}', '{"a": ["y", 1]}']),
    ('a cidr "0.0.0.0/0"', ['{"a": "::ffff:1.2.3.4"}'], ['{"a": "::1.2.3.4"}']),
    (
        'a subset_of ["x", "y"]',
        ['{"a": []}', '{"a": ["y", "y"]}'],
        ['{"a": ["x", "z"]}', '{"a": "x"}', '{"a": ["x", 1]}', "{}"],
    ),
    ("a subset_of [1, 2]", ['{"a": [1.0, 2]}'], ['{"a": [true]}', '{"a": [1e99]}', '{"a": [[1]]}']),
    ('a? subset_of ["x"]', ["{}", '{"a": ["x"]}'], ['{"a": null}']),
    (
        "a present",
        ['{"a": ""}', '{"a": 0}', '{"a": false}', '{"a": []}', '{"a": {}}'],
        ["{}", '{"a": null}', '{"a": 1e-1000000000}'],
    ),
    ("a absent", ["{}", '{"b": 1}'], ['{"a": null}', '{"a": 1e-10}', '{"a": ""}']),
    ('a? == "x"', ["{}", '{"a": "x"}'], ['{"a": "y"}', '{"a": null}']),
    (
        'each(a) == "x"',
        ['{"a": []}', '{"a": ["x", "x"]}'],
        ['{"a": "x"}', '{"a": ["x", "y"]}', "{}", '{"a": {}}'],
    ),
    ('each(a?) in ["x", "y"]', ["{}", '{"a": ["y"]}'], ['{"a": ["z"]}', '{"a": null}']),
    ("each(count(a)) <= 1", ['{"a": [[], [1]]}'], ['{"a": [[1, 2]]}', '{"a": [1]}']),
    (
        'any(a) == "x"',
        ['{"a": ["y", "x"]}', '{"a": ["x"]}', '{"a": [1, null, "x"]}'],
        [
            '{"a": []}',
            '{"a": "x"}',
            '{"a": ["y"]}',
            '{"a": [["x"]]}',
            '{"a": {"b": "x"}}',
            '{"a": null}',
            "{}",
        ],
    ),
    ('any(a?) in ["x", "y"]', ["{}", '{"a": ["z", "y"]}'], ['{"a": []}', '{"a": ["z"]}', '{"a": null}']),
    ('any(a) != "x"', ['{"a": ["x", "y"]}'], ['{"a": ["x"]}', '{"a": [1]}', '{"a": []}']),
    ("any(count(a)) > 1", ['{"a": [[], [1, 2]]}'], ['{"a": [[1]]}', '{"a": [1, 2]}']),
    ('any(a) not under "/etc"', ['{"a": ["/etc/x", "/srv"]}'], ['{"a": ["/etc/x", "/srv/../etc"]}']),
    (
        'a not starts_with ["re:", "fw:"]',
        ['{"a": "hello"}', '{"a": ""}', '{"a": "Re: x"}'],
        ['{"a": "re: x"}', '{"a": "fw:"}', '{"a": 1}', '{"a": ["x"]}', '{"a": null}', "{}"],
    ),
    ('a not starts_with ""', [], ['{"a": "x"}', '{"a": ""}']),
    ("count(a) == 2", ['{"a": [1, null]}'], ['{"a": [1]}', '{"a": "ab"}', '{"a": {"b": 1, "c": 2}}', "{}"]),
    ("count(a?) == 0", ["{}", '{"a": []}'], ['{"a": [0]}']),
    (
        'host(a) == "example.com"',
        [
            '{"a": "https://EXAMPLE.com/x"}',
            '{"a": "http://example.com:8080"}',
            '{"a": "x+y://example.com?q"}',
            '{"a": "http://example.com#f@g"}',
        ],
        [
            '{"a": "https://example.com."}',
            '{"a": "https://user@example.com/"}',
            '{"a": "//example.com/"}',
            '{"a": "https:/example.com"}',
            '{"a": "https://example.com:/"}',
            '{"a": "https://example.com:080/"}',
            '{"a": "https://example.com:65536/"}',
            '{"a": "https://example.com\\\\@evil.com/"}',
            '{"a": " https://example.com"}',
            '{"a": "https://example.com/a b"}',
            '{"a": "https://exampl%65.com/"}',
            '{"a": "https://example..com/"}',
            '{"a": "https://evil.com/example.com"}',
            '{"a": "https://ex\u00e4mple.com"}',
            '{"a": "1http://example.com"}',
            '{"a": "https://example.com\\n"}',
            '{"a": "https://example.com/`"}',
        ],
    ),
    (
        'host(a) == "::1"',
        ['{"a": "http://[::1]:80/"}', '{"a": "http://[::1]"}'],
        [
            '{"a": "http://::1/"}',
            '{"a": "http://[::1"}',
            '{"a": "http://[::1]x/"}',
            '{"a": "http://[0::1]/"}',
        ],
    ),
    (
        'host(a) cidr "127.0.0.0/8"',
        ['{"a": "http://127.0.0.1/"}', '{"a": "http://[::ffff:7f00:1]/"}'],
        [
            '{"a": "http://127.1/"}',
            '{"a": "http://0x7f.0.0.1/"}',
            '{"a": "http://127.0.0.0x1/"}',
            '{"a": "http://2130706433/"}',
            '{"a": "http://0177.0.0.1/"}',
            '{"a": "http://localhost/"}',
        ],
    ),
    (
        'host(a) == "169.254.169.254"',
        [
            '{"a": "http://169.254.169.254/"}',
            '{"a": "http://[::ffff:169.254.169.254]/"}',
            '{"a": "http://[::FFFF:A9FE:A9FE]:80/"}',
            '{"a": "http://[0:0:0:0:0:ffff:a9fe:a9fe]/"}',
        ],
        ['{"a": "http://[::a9fe:a9fe]/"}', '{"a": "http://[::ffff:0:a9fe:a9fe]/"}'],
    ),
    (
        'host(a) != "0.10.200.7"',
        ['{"a": "http://[::ffff:10.0.200.7]/"}', '{"a": "http://[::1]/"}'],
        ['{"a": "http://[::ffff:0.10.200.7]/"}'],
    ),
    (
        'path(a) under "/v1"',
        [
            '{"a": "https://api.acme.com/v1"}',
            '{"a": "https://api.acme.com/v1/users?next=/../admin"}',
            '{"a": "https://[::1]:8443/v1/a.b/~c#/../x"}',
        ],
        [
            '{"a": "https://api.acme.com"}',
            '{"a": "https://api.acme.com/v1/../admin"}',
            '{"a": "https://api.acme.com/v1/%2e%2e/admin"}',
            '{"a": "https://api.acme.com/v1/%u002e"}',
            '{"a": "https://api.acme.com/v1/..;/admin"}',
            '{"a": "https://api.acme.com/v1;x=1/users"}',
            '{"a": "https://api.acme.com/v1//users"}',
            '{"a": "https://api.acme.com/v1/./users"}',
            '{"a": "https://api.acme.com/v1/"}',
            '{"a": "https://api.acme.com/v10"}',
            '{"a": "https://user@api.acme.com/v1"}',
            '{"a": "/v1/users"}',
            '{"a": ["https://api.acme.com/v1"]}',
        ],
    ),
    (
        'path(a) == "/"',
        ['{"a": "https://x"}', '{"a": "https://x/"}', '{"a": "https://x?q"}', '{"a": "https://x/#f"}'],
        ['{"a": "https://x//"}', '{"a": "https://x/."}', '{"a": "https:///"}'],
    ),
    (
        'path(a) glob "/*/docs"',
        ['{"a": "http://x/a/docs"}'],
        ['{"a": "http://x/docs"}', '{"a": "http://x/a/docs/b"}'],
    ),
    (
        'domain(a) == "acme.com"',
        [
            '{"a": "ana@acme.com"}',
            '{"a": "Ana.Lovelace+x@ACME.com"}',
            '{"a": "o\'neil_b&c-d@acme.com"}',
            f'{{"a": "{"a" * 64}@acme.com"}}',
        ],
        [
            '{"a": "acme.com"}',
            '{"a": "@acme.com"}',
            '{"a": "x@evil.com,a@acme.com"}',
            '{"a": "x@evil.com a@acme.com"}',
            '{"a": "a@evil.com@acme.com"}',
            '{"a": "a@acme.com@evil.com"}',
            '{"a": "a@acme.com.evil.com"}',
            '{"a": "a@acme.com."}',
            '{"a": "a@sub.acme.com"}',
            '{"a": "a%evil.com@acme.com"}',
            '{"a": "evil.com!a@acme.com"}',
            '{"a": "a=evil.com@acme.com"}',
            '{"a": "\\"a b\\"@acme.com"}',
            '{"a": "Ana <ana@acme.com>"}',
            '{"a": ".a@acme.com"}',
            '{"a": "a.@acme.com"}',
            '{"a": "a..b@acme.com"}',
            '{"a": "ä@acme.com"}',
            '{"a": "a@acme.com\\n"}',
            '{"a": "a@acme.com\\u0000"}',
            f'{{"a": "{"a" * 65}@acme.com"}}',
            '{"a": "mailto:a@acme.com"}',
            '{"a": ["a@acme.com"]}',
        ],
    ),
    (
        'domain(a) != "x"',
        ['{"a": "a@y"}'],
        ['{"a": "a@10.0.0.1"}', '{"a": "a@[10.0.0.1]"}', '{"a": "a@0x1"}'],
    ),
    (
        "length(a) == 3",
        ['{"a": "abc"}', '{"a": "ä￿𐀀"}', '{"a": "\\u00e4\\ud83d\\ude00\\n"}'],
        ['{"a": "ab"}', '{"a": "abcd"}', '{"a": "éää"}', '{"a": 3}', '{"a": [1, 2, 3]}', "{}"],
    ),
    ("length(a) <= 0", ['{"a": ""}'], ['{"a": " "}', '{"a": null}']),
    ("each(length(a)) <= 2", ['{"a": []}', '{"a": ["ab", ""]}'], ['{"a": ["abc"]}', '{"a": [["a"]]}']),
    ('host(a) starts_with "x_y"', ['{"a": "ws://x_y-1"}'], ['{"a": "ws://x.y"}', '{"a": "ws://"}']),
    (
        'scheme(a) == "https"',
        ['{"a": "HTTPS://x"}'],
        ['{"a": "http://x"}', '{"a": "https:x"}', '{"a": "https://"}'],
    ),
    ('scheme(a) != "x"', [f'{{"a": "{"y" * 256}://x"}}'], [f'{{"a": "{"y" * 257}://x"}}']),
    (
        "port(a) == 443",
        ['{"a": "https://x"}', '{"a": "WSS://x/"}', '{"a": "http://x:443"}'],
        ['{"a": "http://x"}', '{"a": "ftp://x"}'],
    ),
    (
        "port(a) == 80",
        ['{"a": "http://x"}', '{"a": "ws://[::1]"}'],
        ['{"a": "https://x"}', '{"a": "http://x:"}'],
    ),
    ("port(a) == 0", ['{"a": "ftp://x:0"}'], ['{"a": "ftp://x:00"}']),
    ('a.b == "x"', ['{"a": {"b": "x"}}'], ['{"a.b": "x"}', '{"a": [{"b": "x"}]}', '{"a": "x"}']),
    ('"a.b" == "x"', ['{"a.b": "x"}'], ['{"a": {"b": "x"}}']),
    ("session == 1", ['{"session": 1}'], ["{}"]),
    ("args.session.x == 1", ['{"session": {"x": 1}}'], ['{"session": 1}']),
]

# Condition, whether it holds with the facts of the view, in a root and in a child.
FACTS: list[tuple[str, str, bool, bool]] = [
    ('session.case_id == "C-7"', "", True, True),
    ('session.region == "eu"', "", True, False),
    ("session.region present", "", True, False),
    ("session.region absent", "", False, True),
    ('session.region? == "us"', "", False, True),
    ("session.nothing absent", "", True, True),
    ("session.user_present == true", "", True, True),
    ("session.amount >= 50", "", True, True),
    ("each(session.case_id) == 1", "", False, False),
    ("a == session.case_id", '{"a": "C-7"}', True, True),
    ("a == session.case_id", '{"a": "C-8"}', False, False),
    ("a? == session.nothing", "", True, True),
    ("a? == session.nothing", '{"a": 1}', False, False),
    ("a == session.region", '{"a": "eu"}', True, False),
    ("each(a) == session.nothing", '{"a": []}', False, False),
    ("each(a) == session.case_id", '{"a": []}', True, True),
    ("a <= session.amount", '{"a": 50.0}', True, True),
    ("a <= session.case_id", '{"a": 50}', False, False),
    ("a starts_with session.case_id", '{"a": "C-7/x"}', True, True),
    ("a under session.home", '{"a": "/srv/data/x"}', True, True),
    ("a not under session.home", '{"a": "/srv/other"}', True, True),
    ("a not under session.home", '{"a": "/srv/data/x"}', False, False),
    ("a not under session.home", '{"a": "/srv/other/../data"}', False, False),
    ("a not under session.untidy", '{"a": "/x"}', False, False),
    ("a not under session.amount", '{"a": "/x"}', False, False),
    ("a not under session.nothing", '{"a": "/x"}', False, False),
    ("any(session.case_id) == 1", "", False, False),
    ("any(a) == session.nothing", '{"a": []}', False, False),
    ("any(a) == session.case_id", '{"a": ["x", "C-7"]}', True, True),
    ("any(a) == session.case_id", '{"a": []}', False, False),
    ("a not starts_with session.case_id", '{"a": "x"}', True, True),
    ("a not starts_with session.case_id", '{"a": "C-7/x"}', False, False),
    ("a not starts_with session.amount", '{"a": "x"}', False, False),
    ("length(session.case_id) == 3", "", True, True),
    ("a under session.untidy", '{"a": "/srv//data"}', False, False),
    ("a under session.amount", '{"a": "/x"}', False, False),
]

# Scope's tail, arguments, the argument left over ("" where nothing is).
CLOSED: list[tuple[str, str, str]] = [
    ("", '{"x": 1}', ""),
    ("where a == 1", '{"a": 1}', ""),
    ("where a == 1", '{"a": 1, "b": 2}', "b"),
    ("where a == 1", '{"c": 0, "a": 1, "b": 2}', "c"),
    ("where a == 1 free b", '{"a": 1, "b": {"x": 1}}', ""),
    ("where a == 1 free *", '{"a": 1, "b": 2}', ""),
    ("free b", '{"b": 1}', ""),
    ("free b", '{"c": 1}', "c"),
    ("free *", '{"c": 1}', ""),
    ("where a.b == 1", '{"a": {"b": 1}}', ""),
    ("where a.b == 1", '{"a": {"b": 1, "c": 2}}', "a.c"),
    ("where a.b? == 1", '{"a": 1}', "a"),
    ("where a.b? == 1", '{"a": {}}', ""),
    ("where a.b? == 1", '{"a": []}', "a"),
    ("where a.b.c? == 1", '{"a": {"b": {"d": 1}}}', "a.b.d"),
    ("where a.b.c? == 1 free a", '{"a": {"b": {"d": 1}}}', ""),
    ("where tool.x absent", '{"x": 1}', "x"),
    ("where session.x absent", '{"x": 1}', "x"),
    ("where tool.x absent", "{}", ""),
    ("where a absent", '{"": 1}', ""),
    ('where "a.b"? == 1', '{"a": {"b": 1}}', "a"),
]


def cases() -> Iterator[Case]:
    """All vectors of ``conditions.json``."""
    for text, good, bad in TABLE:
        block = root(f"read:files/* where {text} free *")
        argument = print_path(where(text)[0]["path"]).replace('"', "").removeprefix("args.")
        for arguments in good:
            yield _one(f"{text} holds for {arguments or 'nothing'}", block, ask(arguments=arguments), "")
        for arguments in bad:
            yield _one(
                f"{text} fails for {arguments or 'nothing'}", block, ask(arguments=arguments), argument
            )
    yield from _facts()
    yield from _closed()
    yield from _tool()
    yield from _work()


def _one(name: str, block: Record, request: OracleRequest, argument: str) -> Case:
    expected = at_block(Reason.CONDITION_FAILED, 0, 0, 0, argument) if argument else allowed()
    return case(name, "One condition; free * leaves other arguments alone.", expected, block, request=request)


def _facts() -> Iterator[Case]:
    for text, arguments, in_root, in_child in FACTS:
        argument = text.removeprefix("each(").removeprefix("any(").split(" ")[0].rstrip("?)")
        failed = Reason.CONDITION_FAILED
        scope = f"read:files/* where {text} free *"
        request = ask(arguments=arguments)
        yield case(
            f"root: {text} with {arguments or 'nothing'}",
            "A root sees all facts of its session.",
            allowed() if in_root else at_block(failed, 0, 0, 0, argument),
            root(scope),
            request=request,
            view="facts",
        )
        yield case(
            f"child: {text} with {arguments or 'nothing'}",
            "A holder's block sees visible facts only.",
            allowed(1) if in_child else at_block(failed, 1, 0, 0, argument),
            root("*:**"),
            child(scope),
            request=request,
            view="facts",
        )


def _closed() -> Iterator[Case]:
    for tail, arguments, left in CLOSED:
        expected = at_block(Reason.CONDITION_FAILED, 0, 0, -1, left) if left else allowed()
        if arguments == '{"": 1}':
            expected = at_block(Reason.CONDITION_FAILED, 0, 0, -1, "")
        yield case(
            f"closed: {tail or 'no condition'} with {arguments}",
            "A closed scope admits what it mentions.",
            expected,
            root(f"read:files/* {tail}".strip()),
            request=ask(arguments=arguments),
        )


def _tool() -> Iterator[Case]:
    block = root("read:files/* where tool.hints.readOnly == true")
    yield case(
        "tool holds",
        "What the gateway's catalogue says.",
        allowed(),
        block,
        request=ask(tool=b'{"hints": {"readOnly": true}}'),
    )
    yield case(
        "tool fails",
        "The path is named with its source.",
        at_block(Reason.CONDITION_FAILED, 0, 0, 0, "tool.hints.readOnly"),
        block,
        request=ask(tool=b"{}"),
    )


def _work() -> Iterator[Case]:
    malformed = Reason.MALFORMED_REQUEST
    values = ", ".join(str(n) for n in range(64))
    items = '{"a": [' + ", ".join(["63"] * 1_030) + "]}" + " " * 672
    subset = f"a subset_of [{values}]"
    yield case(
        "work at the limit",
        "3 x 65,236 for 4,799 bytes, 516 for 1,032 values, 1,030 elements x 64 values: 262,144 steps.",
        allowed(),
        root(f"read:** where {subset} free *"),
        request=ask(arguments=items),
    )
    yield case(
        "work beyond",
        "One step more, in the block's where.",
        refused(malformed, Level.BLOCK, 0, -1, 0, "arguments"),
        root(f"read:** where {subset} free *", conditions="each(b) == 1"),
        request=ask(arguments=items.replace("}", ', "b": [1]}')),
    )
    yield case(
        "work beyond in a scope",
        "Counted on from scope to scope.",
        refused(malformed, Level.BLOCK, 0, 1, 0, "arguments"),
        root(f"read:** where {subset} and c == 1", f"read:** where {subset}"),
        request=ask(arguments='{"a": [' + ", ".join(["63"] * 600) + "]}"),
    )
    many = "{" + ", ".join(f'"k{n}": 1' for n in range(8_200)) + "}"
    free = ", ".join(f"k{n}" for n in range(32))
    yield case(
        "work beyond in the closed world",
        "8200 members and 32 paths.",
        refused(malformed, Level.BLOCK, 0, 0, -1, "arguments"),
        root(f"read:** free {free}"),
        request=ask(arguments=many),
    )
    yield from _work_by_bytes()


def _work_by_bytes() -> Iterator[Case]:
    """Texts that globs and URLs look through cost steps for their bytes."""
    patterns = ", ".join(['"*"', *(f'"{n}*"' for n in range(63))])
    globs = " and ".join([f"a glob [{patterns}]"] * 8)
    text = "x" * 1_024
    comment = "8 conditions with 64 patterns on 1,024 bytes are 8 x (1 + 64 x 129) steps."
    for name, host, more in (("at the limit", "http://x.y/1234", 0), ("beyond", "http://x.y/12345", 1)):
        beyond = refused(Reason.MALFORMED_REQUEST, Level.BLOCK, 0, 0, 8, "arguments")
        yield case(
            f"work by bytes {name}",
            f"{comment} A URL of {len(host)} bytes adds {5 + more}: 262,144 with 3 x 65,361, or one more.",
            beyond if more else allowed(),
            root(f'read:** where {globs} and host(b) == "x.y" free *'),
            request=ask(arguments=f'{{"a": "{text}", "b": "{host}"}}' + " " * 1733),
        )
    yield case(
        "work by bytes of another glob",
        "262,142 steps, and 4 for 16 bytes and a single pattern.",
        refused(Reason.MALFORMED_REQUEST, Level.BLOCK, 0, -1, 0, "arguments"),
        root(f"read:** where {globs} free *", conditions='b glob "*"'),
        request=ask(arguments=f'{{"a": "{text}", "b": "{"y" * 16}"}}' + " " * 1718),
    )
