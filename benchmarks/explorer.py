"""How fast the exported explorer is: from navigation to the first cards, what is loaded by then, and how long a slider
takes until its new figures are on the page.

    python benchmarks/explorer.py FOLDER [--turns N]      # a folder written by `vitruvius explore --export`

Serves the folder on this machine and opens it in Chromium (CHROMIUM, or the one on the path) with an empty cache.
Needs playwright.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

from playwright.sync_api import Browser, sync_playwright

CARDS = """
new Promise((done) => {
  const look = () => document.querySelectorAll(".card").length ? done(performance.now()) : requestAnimationFrame(look);
  look();
})
"""
LOADED = """
performance.getEntriesByType("resource").concat(performance.getEntriesByType("navigation"))
  .reduce((sum, each) => sum + each.decodedBodySize, 0)
"""
SLIDE = """
async () => {
  const slider = document.getElementById("slide-context");
  const shown = () => document.querySelector(".verdict").textContent;
  const times = [];
  for (let step = 1; step < Number(slider.max); step += 1) {
    const before = shown();
    const begin = performance.now();
    slider.value = step;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    while (shown() === before && performance.now() - begin < 2000) await new Promise((next) => setTimeout(next));
    await new Promise((next) => requestAnimationFrame(next));
    times.push(performance.now() - begin);
  }
  return times;
}
"""


class Server(ThreadingHTTPServer):
    request_queue_size = 128  # a browser opens several connections at once


class Quiet(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass


def first_cards(browser: Browser, address: str) -> tuple[float, int]:
    """Milliseconds, and bytes loaded when the network has come to rest."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    page = context.new_page()
    page.goto(address, wait_until="commit")
    time = page.evaluate(CARDS)
    page.wait_for_load_state("networkidle")
    loaded = page.evaluate(LOADED)
    context.close()
    return time, loaded


def slider(browser: Browser, address: str) -> list[float]:
    page = browser.new_page()
    page.goto(f"{address}#/fit/deepseek-v3")
    page.wait_for_selector(".verdict")
    times: list[float] = page.evaluate(SLIDE)
    page.close()
    return times


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("folder")
    options.add_argument("--turns", type=int, default=5)
    asked = options.parse_args()
    server = Server(("127.0.0.1", 0), partial(Quiet, directory=asked.folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}/"
    with sync_playwright() as playwright:
        program = os.environ.get("CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        turns = [first_cards(browser, address) for _ in range(asked.turns)]
        moved = sorted(slider(browser, address))
    print(f"first cards       {statistics.median(time for time, _ in turns):.0f} ms (median of {asked.turns})")
    print(f"before a click    {max(size for _, size in turns):,} bytes")
    print(f"slider → figures  {statistics.median(moved):.1f} ms (median of {len(moved)}), at most {moved[-1]:.1f} ms")


if __name__ == "__main__":
    main()
