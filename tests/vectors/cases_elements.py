"""Elements of lists, equality with JSON values, numbers of any size: sections 6.2, 6.5, 7 and 7.1."""

from __future__ import annotations

from collections.abc import Iterator

from tests.oracle.canonical import canonical_decimal, form, form_digest
from tests.oracle.constants import Level, Reason
from tests.oracle.json_values import NUMBER, number_of, parse_object
from tests.oracle.text import encode_base64url
from tests.vectors.world import Case, allowed, ask, at_block, case, refused, root

_DEEP = ("[" * 29 + "]" * 29, "[" * 28 + "]" * 28)
_LONG = "x" * 1025


def digest(value: str) -> str:
    """The scope text of a JSON text's digest."""
    return f'digest("{encode_base64url(form_digest(form(parse_object(b"%s" % _member(value))["v"])))}")'


def _member(value: str) -> bytes:
    return b'{"v":' + value.encode("utf-8") + b"}"


# Condition, arguments that satisfy it, (arguments that do not, argument of the position).
ELEMENTS: list[tuple[str, list[str], list[tuple[str, str]]]] = [
    (
        'f[].p under "src"',
        ['{"f": [{"p": "src/a"}]}', '{"f": [{"p": "src"}, {"p": "src/b", "q": 1}]}'],
        [
            ('{"f": [{"p": "src/a"}, {"p": "etc"}]}', "f[1].p"),
            ('{"f": []}', "f[].p"),
            ("{}", "f[].p"),
            ('{"f": null}', "f[].p"),
            ('{"f": {"p": "src/a"}}', "f[].p"),
            ('{"f": {"0": {"p": "src/a"}}}', "f[].p"),
            ('{"f": "src/a"}', "f[].p"),
            ('{"f": ["src/a"]}', "f[0].p"),
            ('{"f": [{"p": "src/a"}, {}]}', "f[1].p"),
            ('{"f": [{"p": "src/a"}, {"p": null}]}', "f[1].p"),
            ('{"f": [[{"p": "src/a"}]]}', "f[0].p"),
            ('{"f": [{"p": "src/a"}, {"p": ["src/a"]}]}', "f[1].p"),
        ],
    ),
    (
        'f[].p? under "src"',
        ["{}", '{"f": []}', '{"f": [{}, {"p": "src"}]}', '{"f": [1]}'],
        [
            ('{"f": [{"p": "etc"}]}', "f[0].p"),
            ('{"f": 1}', "f[].p"),
            ('{"f": {}}', "f[].p"),
            ('{"f": null}', "f[].p"),
        ],
    ),
    (
        't[] == "a"',
        ['{"t": ["a", "a"]}'],
        [('{"t": ["a", 1]}', "t[1]"), ('{"t": []}', "t[]"), ('{"t": "a"}', "t[]")],
    ),
    (
        "f[].p present",
        ['{"f": [{"p": 0}, {"p": {}}]}'],
        [('{"f": [{"p": 0}, {"p": null}]}', "f[1].p"), ('{"f": []}', "f[].p"), ("{}", "f[].p")],
    ),
    (
        "f[].p absent",
        ["{}", '{"f": []}', '{"f": [{}, {"q": 1}]}'],
        [('{"f": [{}, {"p": null}]}', "f[1].p"), ('{"f": 1}', "f[].p"), ('{"f": {}}', "f[].p")],
    ),
    (
        "m[][].n < 3",
        ['{"m": [[{"n": 1}], [{"n": 2}, {"n": -1}]]}'],
        [
            ('{"m": [[{"n": 1}], [{"n": 2}, {"n": 3}]]}', "m[1][1].n"),
            ('{"m": [[{"n": 1}], []]}', "m[1][].n"),
            ('{"m": [[{"n": 1}], {"n": 1}]}', "m[1][].n"),
        ],
    ),
    (
        "a.b[].c[] in [1, 2]",
        ['{"a": {"b": [{"c": [1]}, {"c": [2, 1.0]}]}}'],
        [('{"a": {"b": [{"c": [3]}]}}', "a.b[0].c[0]")],
    ),
    ("count(f[].t) <= 1", ['{"f": [{"t": []}, {"t": [1]}]}'], [('{"f": [{"t": [1, 2]}]}', "f[0].t")]),
    ('each(f[].t) == "x"', ['{"f": [{"t": []}, {"t": ["x"]}]}'], [('{"f": [{"t": ["x", "y"]}]}', "f[0].t")]),
    ('f[].t subset_of ["x"]', ['{"f": [{"t": ["x"]}]}'], [('{"f": [{"t": "x"}]}', "f[0].t")]),
    ('host(u[]) == "a.b"', ['{"u": ["https://A.b/x"]}'], [('{"u": ["https://a.b", "a.b"]}', "u[1]")]),
    ('f[]."" == 1', ['{"f": [{"": 1}]}'], [('{"f": [{"a": 1}]}', "f[0].")]),
    ('f[]."[]" == 1', ['{"f": [{"[]": 1}]}'], [('{"f": [[1]]}', "f[0].[]")]),
    (
        'any(f[].p) == "x"',
        ['{"f": [{"p": "y"}, {"p": "x"}]}', '{"f": [{}, 1, null, {"p": "x"}]}'],
        [
            ('{"f": [{"p": "y"}]}', "f[].p"),
            ('{"f": [{"p": ["x"]}]}', "f[].p"),
            ('{"f": []}', "f[].p"),
            ('{"f": {"p": "x"}}', "f[].p"),
            ("{}", "f[].p"),
        ],
    ),
    ("any(f[].p?) == 1", ["{}", '{"f": []}', '{"f": [{"p": 2}, {}]}'], [('{"f": [{"p": 2}]}', "f[].p")]),
    (
        "any(m[][].n) >= 3",
        ['{"m": [[{"n": 1}], 5, [], [{"n": 2}, {"n": 3}]]}'],
        [('{"m": [[{"n": 1}], [{"n": 2}]]}', "m[][].n"), ('{"m": [[], []]}', "m[][].n")],
    ),
    ('any(host(u[])) == "a.b"', ['{"u": ["a.b", "https://A.b/x"]}'], [('{"u": ["a.b"]}', "u[]")]),
    ("any(t[]) == null", ['{"t": [1, null]}'], [('{"t": [1]}', "t[]")]),
    ("args.tool.f[] == 1", ['{"tool": {"f": [1]}}'], [('{"tool": {"f": [2]}}', "tool.f[0]")]),
    ("tool[] == 1", ['{"tool": [1]}'], [('{"tool": [2]}', "tool[0]")]),
]

# Condition, arguments that satisfy it, arguments that do not; the argument is `a`.
EQUALITY: list[tuple[str, list[str], list[str]]] = [
    (
        'a == ["x", "y"]',
        ['{"a": ["x","y"]}', '{"a": [ "\\u0078" , "y" ]}'],
        [
            '{"a": ["y", "x"]}',
            '{"a": ["x", "y", "y"]}',
            '{"a": ["x"]}',
            '{"a": "x"}',
            "{}",
            '{"a": {"0": "x", "1": "y"}}',
        ],
    ),
    ("a == []", ['{"a": []}'], ['{"a": {}}', '{"a": [[]]}', '{"a": null}', "{}", '{"a": ""}']),
    ("a == {}", ['{"a": {}}'], ['{"a": []}', '{"a": {"b": null}}']),
    ("a == null", ['{"a": null}'], ["{}", '{"a": "null"}', '{"a": 0}', '{"a": false}', '{"a": []}']),
    ("a? == null", ["{}", '{"a": null}'], ['{"a": 1}']),
    (
        "a != null",
        ['{"a": 1}', '{"a": "x"}', '{"a": []}'],
        ['{"a": null}', "{}", '{"a": 1e1000000000}', '{"a": [1e1000000000]}'],
    ),
    (
        'a in [null, "x", 5, false]',
        ['{"a": null}', '{"a": "x"}', '{"a": 5.0}', '{"a": false}'],
        ['{"a": "5"}', '{"a": true}', '{"a": 0}'],
    ),
    (
        'a in [1, "x", true]',
        ['{"a": 1.0}', '{"a": "x"}', '{"a": true}'],
        ['{"a": "1"}', '{"a": false}', '{"a": null}'],
    ),
    ("a not in [null, []]", ['{"a": 1}'], ['{"a": null}', '{"a": []}']),
    (
        'a == {"b": 1.0, "a": [1E2, {"c": "\u00e9"}]}',
        [
            '{"a": {"a": [100, {"c": "\\u00e9"}], "b": 1}}',
            '{"a": {"b": 10e-1, "a": [1e+2, {"c": "\u00e9"}]}}',
        ],
        [
            '{"a": {"a": [100, {"c": "e\u0301"}], "b": 1}}',
            '{"a": {"a": [100, {"c": "\u00e9", "d": 1}], "b": 1}}',
            '{"a": {"a": [100], "b": 1}}',
        ],
    ),
    (
        'a == {"\U00010000": 1, "\uffff": 2}',
        ['{"a": {"\uffff": 2, "\U00010000": 1}}'],
        ['{"a": {"\uffff": 1, "\U00010000": 2}}'],
    ),
    (f"a == {digest('[1, 2]')}", ['{"a": [1, 2.0]}'], ['{"a": [2, 1]}', '{"a": "[1,2]"}']),
    (
        f'a == "{_LONG}"',
        ['{"a": "' + _LONG + '"}'],
        ['{"a": "' + _LONG[1:] + '"}', '{"a": "' + _LONG + 'x"}'],
    ),
    (f'a in ["x", "{_LONG}"]', ['{"a": "x"}', '{"a": "' + _LONG + '"}'], ['{"a": "y"}']),
    (f"a == [{_DEEP[0]}]", ['{"a": [' + _DEEP[0] + "]}"], ['{"a": [' + _DEEP[1] + "]}"]),
    ("each(a) == {}", ['{"a": []}', '{"a": [{}]}'], ['{"a": [{}, []]}']),
    (
        'a subset_of [{"b": 1}, null]',
        ['{"a": []}', '{"a": [null, {"b": 1}]}'],
        ['{"a": [{"b": 2}]}', '{"a": {"b": 1}}'],
    ),
    (
        "a == 48.858370148123",
        ['{"a": 48.858370148123}', '{"a": 48858370148123e-12}', '{"a": 48.8583701481230}'],
        ['{"a": 48.858370148}', '{"a": 48.858370148123001}'],
    ),
    ("a == 1e300", ['{"a": 1E+300}', '{"a": 10e299}'], ['{"a": 1e301}', '{"a": 1e299}', '{"a": -1e300}']),
    ("a in [1, 0.0000000001]", ['{"a": 1}', '{"a": 1e-10}'], ['{"a": 1e-11}', '{"a": "1e-10"}']),
    (
        "a != 5e-324",
        ['{"a": 1}', '{"a": 4.9e-324}'],
        ['{"a": 5e-324}', '{"a": "5e-324"}', '{"a": 1e-1000000000}'],
    ),
    (
        "a <= 48.9",
        ['{"a": 48.858370148123}', '{"a": -1e300}'],
        ['{"a": 48.900000000000001}', '{"a": 1e300}', '{"a": "1"}'],
    ),
    (
        "a < 48.858370148123",
        ['{"a": 48.858370148122}', '{"a": 48}'],
        ['{"a": 48.858370148123}', '{"a": 48.858370148123000001}', '{"a": 49}'],
    ),
    (
        "a > -1e-10",
        ['{"a": 0}', '{"a": -9e-11}', '{"a": 1e-999999999}'],
        ['{"a": -1e-10}', '{"a": -2e-10}', '{"a": 1e-1000000000}'],
    ),
    (
        "a >= 9223372036854775808",
        ['{"a": 9223372036854775808}', '{"a": 9223372036854775808.0}'],
        ['{"a": 9223372036854775807.999999999}', '{"a": 9223372036854775807.9999999999}'],
    ),
    (
        "a present",
        [
            '{"a": 1e-10}',
            '{"a": 1e999999999}',
            '{"a": 0e9999999999999999999999}',
            '{"a": ' + "1" * 1024 + "}",
        ],
        ['{"a": 1e1000000000}', '{"a": ' + "1" * 1025 + "}"],
    ),
    (
        "a present",
        ['{"a": 1.' + "0" * 2000 + "}", '{"a": 0.' + "0" * 2000 + "1}"],
        ['{"a": 1.' + "0" * 1024 + "1}"],
    ),
]

# Scope's tail, arguments, the argument left over ("" where nothing is).
CLOSED: list[tuple[str, str, str]] = [
    ("where f[].p == 1", '{"f": [{"p": 1}, {"p": 1, "q": 2}]}', "f[1].q"),
    ("where f[].p == 1 free f[].q", '{"f": [{"p": 1}, {"p": 1, "q": [2]}]}', ""),
    ("where f[].p == 1 free f[].q", '{"f": [{"p": 1}], "g": 1}', "g"),
    ("where f[].p == 1 free f", '{"f": [{"p": 1, "q": 2}]}', ""),
    ("where f[].p? == 1", '{"f": [{}, 5]}', "f[1]"),
    ("where f[].p? == 1", '{"f": [{}, []]}', "f[1]"),
    ("where f[].p? == 1", '{"f": []}', ""),
    ("free f[].p", '{"f": [{"p": 1}, {}]}', ""),
    ("free f[].p", '{"f": {"p": 1}}', "f"),
    ("free f[].p", '{"f": "x"}', "f"),
    ("free f.p", '{"f": [{"p": 1}]}', "f"),
    ("free f.p", '{"f": []}', "f"),
    ("free f[]", '{"f": [1, {"a": 2}, [3]]}', ""),
    ("free f[].p, f.q", '{"f": {"q": 1}}', ""),
    ("free f[].p, f.q", '{"f": [{"p": 1, "q": 1}]}', "f[0].q"),
    ("free m[][].n", '{"m": [[{"n": 1}], [{"n": 1, "o": 2}]]}', "m[1][0].o"),
    ("free m[][].n", '{"m": [[], {"n": 1}]}', "m[1]"),
    ('free f[]."[]"', '{"f": [[1]]}', "f[0]"),
    ("where count(f) <= 2 and f[].p == 1", '{"f": [{"p": 1, "z": 0}]}', ""),
    ("where no arguments", "{}", ""),
    ("where no arguments", '{"x": 1}', "x"),
    ("where no arguments", '{"": 1}', "\x00"),
    ("where f == []", '{"f": []}', ""),
]


def cases() -> Iterator[Case]:
    """All vectors of ``elements.json``."""
    for text, good, bad in ELEMENTS:
        for arguments in good:
            yield _one(text, arguments, "")
        for arguments, argument in bad:
            yield _one(text, arguments, argument)
    for text, good, wrong in EQUALITY:
        for arguments in good:
            yield _one(text, arguments, "")
        for arguments in wrong:
            yield _one(text, arguments, "a")
    yield from _closed()
    yield from _nearest()
    yield from _work()


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:40]}… {len(text)}"


def _one(text: str, arguments: str, argument: str) -> Case:
    expected = at_block(Reason.CONDITION_FAILED, 0, 0, 0, argument) if argument else allowed()
    return case(
        f"{_short(text)} {'fails' if argument else 'holds'} for {_short(arguments)}",
        "One condition; free * leaves other arguments alone.",
        expected,
        root(f"read:files/* where {text} free *"),
        request=ask(arguments=arguments),
    )


def _closed() -> Iterator[Case]:
    for tail, arguments, left in CLOSED:
        expected = allowed()
        if left:
            expected = at_block(Reason.CONDITION_FAILED, 0, 0, -1, left.strip("\x00"))
        yield case(
            f"closed: {tail} with {arguments}",
            "A closed scope admits what it mentions, inside lists too.",
            expected,
            root(f"read:files/* {tail}"),
            request=ask(arguments=arguments),
        )


def _nearest() -> Iterator[Case]:
    """The scope that a denial names (9.8)."""
    scopes = ("a == 1 and b == 1", "a == 2 and b == 2", "a == 2 and b == 3 and c == 1", "a == 2")
    for arguments, scope, clause, argument in (
        ('{"a": 3, "b": 1}', 0, 0, "a"),
        ('{"a": 1, "b": 2}', 0, 1, "b"),
        ('{"a": 2, "b": 3}', 3, -1, "b"),
        ('{"a": 1, "b": 1, "c": 1}', 0, -1, "c"),
    ):
        yield case(
            f"nearest to {arguments}",
            "Of several scopes for one call the one of which most conditions held.",
            at_block(Reason.CONDITION_FAILED, 0, scope, clause, argument),
            root(*(f"read:files/* where {scope}" for scope in scopes)),
            request=ask(arguments=arguments),
        )
    yield case(
        "nearest by its third condition",
        "No scope is closed.",
        at_block(Reason.CONDITION_FAILED, 0, 2, 2, "c"),
        root(*(f"read:files/* where {scope} free *" for scope in scopes[:3])),
        request=ask(arguments='{"a": 2, "b": 3, "c": 2}'),
    )


def _work() -> Iterator[Case]:
    beyond = Reason.MALFORMED_REQUEST
    values = ", ".join(str(n) for n in range(64))
    items = '{"a": [' + ", ".join(["63"] * 1_030) + "]"
    comment = "3 x 65,236 for 4,799 bytes, 516 for 1,032 values, 1,030 elements x 64 values: 262,144 steps."
    every = f"read:** where a[] in [{values}] free *"
    yield case(
        "work of elements at the limit",
        comment,
        allowed(),
        root(every),
        request=ask(arguments=items + "}" + " " * 672),
    )
    yield case(
        "work of elements beyond",
        "One step more, in the block's where.",
        refused(beyond, Level.BLOCK, 0, -1, 0, "arguments"),
        root(every, conditions="b[] == 1"),
        request=ask(arguments=items + ', "b": [1]}' + " " * 672),
    )
    yield case(
        "10,000 values in a list are elements as others",
        "9,998 elements in a closed scope of one path: 1 + 9,998 steps for it, and 9,998 for the condition.",
        allowed(),
        root("read:** where a[] == 7"),
        request=ask(arguments='{"a": [' + ",".join(["7"] * 9_998) + "]}"),
    )
    nested = '{"a": [' + ",".join(['{"b":[1,1]}'] * 1_570) + "]}"
    for paths, expected in ((10, allowed()), (11, refused(beyond, Level.BLOCK, 0, 0, -1, "arguments"))):
        free = ", ".join(f"a[].b[].k{n}" for n in range(paths - 1))
        yield case(
            f"work of the closed world inside lists, {paths} paths",
            "1 + 1,570 + 1,570 + 3,140 members and elements are walked, for each path.",
            expected,
            root(f"read:** free a[].b[], {free}"),
            request=ask(arguments=nested),
        )
    yield from _work_of_forms()


def _work_of_forms() -> Iterator[Case]:
    # 16 conditions on a text of n bytes: 16 x (4 + n / 16) steps.
    where = " and ".join(["a == null"] * 16)
    negative = " and ".join(["a != null"] * 16)
    for size, expected in (
        (80_576, allowed()),
        (80_592, refused(Reason.MALFORMED_REQUEST, Level.BLOCK, 0, 0, 15, "arguments")),
    ):
        yield case(
            f"work of a form of {size} bytes",
            "16 conditions, each 4 steps and one for 16 bytes: 262,137 with 3 x 60,499, or more.",
            expected,
            root(f"read:** where {negative} free *"),
            request=ask(arguments='{"a": "' + "x" * size + '"}'),
        )
    yield case(
        "work of a form ends where it fails",
        "The first condition is false.",
        at_block(Reason.CONDITION_FAILED, 0, 0, 0, "a"),
        root(f"read:** where {where} free *"),
        request=ask(arguments='{"a": "' + "x" * 262_144 + '"}'),
    )
    number = canonical_decimal(number_of(NUMBER.fullmatch("1" * 1024)))  # type: ignore[arg-type]
    numbers = '{"a": [' + ",".join(["1" * 1024] * 900) + "]}"
    # 902 values to look among.
    steps = 902 // 2 + 3 + 3 * 900 + 900 * (len(number) // 16)
    fit = (262_144 - 3 * ((1_048_576 - len(numbers)) // 16)) // steps
    for count, expected in (
        (fit, allowed()),
        (fit + 1, refused(Reason.MALFORMED_REQUEST, Level.BLOCK, 0, 0, fit, "arguments")),
    ):
        yield case(
            f"work of a form of numbers, {count} conditions",
            f"900 numbers of {len(number)} bytes: {steps} steps.",
            expected,
            root(f"read:** where {' and '.join(['a != null'] * count)} free *"),
            request=ask(arguments=numbers),
        )
