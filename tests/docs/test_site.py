"""The site of ``make docs``: complete, found by words, and fetched from nowhere else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.tree import ROOT

pytest.importorskip("material", reason="needs the group docs: make docs installs it")
CHROMIUM = shutil.which("chromium") or ""
MISSING = "needs chromium (Debian's package) and playwright: .ci/run installs them"
if os.environ.get("SESSAUTH_TEST_CHROMIUM") and not (CHROMIUM and find_spec("playwright")):
    raise RuntimeError(MISSING)
playwright_api = pytest.importorskip("playwright.sync_api", reason=MISSING)
needs_chromium = pytest.mark.skipif(not CHROMIUM, reason=MISSING)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site in a folder of its own."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)

    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    """Start a browser."""
    with playwright_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def test_methods_show_the_terms_that_they_take(site: Path) -> None:
    """A parameter that a TypedDict states, its base classes too, is in the signature and explained."""
    page = (site / "docs" / "reference" / "client.html").read_text(encoding="utf-8")
    method = page.split('id="sessauth.client.Client.mint"')[1].split('class="doc doc-object doc-function"')[0]

    assert "how long it lives from now, in ms" in method
    assert "refuse a scope that is not proven to narrow" in method
    assert "**terms" not in method


@needs_chromium
@pytest.mark.parametrize(
    ("page", "words", "found"),
    [
        ("index.html", "attenuate", "docs/reference/tokens.html"),
        ("docs/how-to/tls.html", "SESSION_ENDED", "docs/reasons.html"),
    ],
)
def test_a_page_from_a_disk_is_searched(chromium, site: Path, page: str, words: str, found: str) -> None:
    """The search finds pages without a server, and nothing is asked for outside of the site."""
    opened, asked = chromium.new_page(), []
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto((site / page).as_uri())
    opened.locator(".md-search__input").click()
    opened.keyboard.type(words)
    opened.locator(f'.md-search-result__link[href*="{found}"]').first.wait_for(
        state="attached", timeout=30_000
    )

    assert [url for url in asked if not url.startswith((site.as_uri(), "data:"))] == []


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pictures_are_shown_in_both_schemes(chromium, site: Path, scheme: str) -> None:
    """Each picture of the console's page is there, and is the one of the reader's scheme."""
    opened = chromium.new_page(color_scheme=scheme)
    opened.goto((site / "docs" / "console.html").as_uri())
    shown = opened.evaluate(
        "[...document.querySelectorAll('article img')].map(each => [each.currentSrc, each.naturalWidth > 0])"
    )

    assert len(shown) == 2
    assert all(f"-{scheme}.png" in source and loaded for source, loaded in shown)
