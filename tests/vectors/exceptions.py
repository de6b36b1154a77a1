"""The exceptions of one ceiling, which the world of the vectors has and their cases call."""

from __future__ import annotations

# The exceptions of the view, each with calls under it and calls outside: arguments of its action.
EXCEPTIONS: list[tuple[str, list[str], list[str]]] = [
    ("except write:files/secret*", [], ["", '{"a": 1}']),
    (
        'except fetch:files/* where host(url) cidr "10.0.0.0/8"',
        [
            '{"url": "http://10.0.0.1/"}',
            '{"url": "http://[::ffff:10.0.0.1]/"}',
            '{"url": "http://db.internal/"}',
            '{"url": "http://0x0a000001/"}',
            '{"url": ["http://11.0.0.1/"]}',
            '{"url": null}',
        ],
        ['{"url": "http://11.0.0.1/"}', "", '{"uri": "http://10.0.0.1/"}'],
    ),
    (
        'except send:files/* where to in ["@all", "@here"]',
        ['{"to": "@all"}', '{"to": 1}', '{"to": ["@all"]}', '{"to": null}'],
        ['{"to": "@bo"}', '{"to": ""}', "", '{"cc": "@all"}'],
    ),
    (
        "except pay:files/* where amount > 100",
        ['{"amount": 100.5}', '{"amount": "5"}', '{"amount": 1e1000000000}'],
        ['{"amount": 100}', '{"amount": -1}', ""],
    ),
    (
        'except read:files/* where paths[] under "keys"',
        ['{"paths": ["keys/a"]}', '{"paths": ["keys", "a/../b"]}', '{"paths": "a"}'],
        ['{"paths": ["keys", "a"]}', '{"paths": []}', ""],
    ),
    (
        'except scan:files/* where any(paths[]) under "keys"',
        ['{"paths": ["a", "keys/b"]}', '{"paths": ["a", "a/../b"]}', '{"paths": [1]}'],
        ['{"paths": ["a", "b"]}', '{"paths": []}', ""],
    ),
    (
        'except list:files/* where any(tags) == "x"',
        ['{"tags": ["y", "x"]}', '{"tags": "x"}', '{"tags": [1]}'],
        ['{"tags": ["y"]}', '{"tags": []}', ""],
    ),
    (
        'except open:files/* where each(modes) == "w"',
        ['{"modes": ["w"]}', '{"modes": []}', '{"modes": [1]}'],
        ['{"modes": ["w", "r"]}', ""],
    ),
    (
        'except tag:files/* where tags subset_of ["x"]',
        ['{"tags": ["x"]}', '{"tags": []}'],
        ['{"tags": ["y"]}'],
    ),
    ('except find:files/* where dir? == "a"', ['{"dir": "a"}', ""], ['{"dir": "b"}']),
    ("except copy:files/* where to absent", ["", '{"a": 1}'], ['{"to": 1}']),
    ("except move:files/* where to present", ['{"to": 1}', '{"to": null}'], [""]),
    (
        'except edit:files/* where session.region == "eu" and text not starts_with "ok"',
        ['{"text": "no"}', '{"text": 1}'],
        ['{"text": "ok then"}', ""],
    ),
    ("except drop:files/* where a == session.nothing", ['{"a": 1}', '{"a": "x"}'], [""]),
    ("except tool:files/* where tool.safe == false", [], [""]),
]
