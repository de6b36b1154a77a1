"""Write pictures of the console into docs/images/, of the sessions that the demo keeps alive.

    python tools/console_pictures.py [FOLDER]

Needs Debian's chromium.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "docs" / "images"
CHROMIUM = "/usr/bin/chromium"
WIDTH, HEIGHT = 1120, 720
WARM_SECONDS = 20
MAX_BYTES = 150_000


def main(folder: Path) -> None:
    """Run the demo, and look at it."""
    from playwright.sync_api import sync_playwright

    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "sessauth.cli.main", "demo", "--console"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as demo:
        try:
            lines = demo.stdout or ()
            link = next(found[0] for line in lines if (found := re.search(r"http://\S+", line)))
            time.sleep(WARM_SECONDS)
            with sync_playwright() as driver:
                browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
                page = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}).new_page()
                page.goto(link)
                page.get_by_role("button", name="Log in").click()
                _look(page, folder)
                browser.close()
        finally:
            demo.send_signal(signal.SIGTERM)
    for picture in sorted(folder.glob("console-*.png")):
        size = picture.stat().st_size
        print(picture.name, size)
        if size > MAX_BYTES:
            raise SystemExit(f"{picture.name} has more than {MAX_BYTES} bytes")


def _look(page: Any, folder: Path) -> None:
    def shoot(name: str, *, whole: bool = False) -> None:
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_timeout(500)
            page.screenshot(path=folder / f"console-{name}-{scheme}.png", full_page=whole)

    page.locator("tbody tr").first.wait_for()
    page.wait_for_timeout(1500)
    shoot("sessions")
    page.get_by_role("row").filter(has_text="agent:orchestrator").get_by_role("link").click()
    page.locator("#h-decisions").wait_for()
    page.set_viewport_size({"width": WIDTH, "height": 1000})
    shoot("session")
    page.locator("#do-end").click()
    page.get_by_label("Reason").fill("ticket closed")
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    page.get_by_role("button", name="End this session").click()
    page.locator(".closure.closed").wait_for()
    shoot("closure")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
