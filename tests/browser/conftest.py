"""The explorer in Chromium: exported into a subfolder of a plain file server, and served with its API."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from vitruvius.server.explorer.application import application
from vitruvius.server.explorer.files import content_type, explorer

FOLDER = "/some/folder/"
DESKTOP, PHONE = {"width": 1440, "height": 1000}, {"width": 390, "height": 844}
PATIENCE = 60_000  # milliseconds; a page's data are made when it is asked for
HARMLESS = (
    "status of 422",  # an answer that the page shows
    "inline event handler violates",  # one that a test put there
)
Open = Callable[..., Page]

expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, or the one that CHROMIUM names."""
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert program, "install chromium, or name one in CHROMIUM"
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])


@pytest.fixture(scope="session")
def exported() -> Iterator[str]:
    """The address of what an export holds. Each file is made when it is asked for: a test needs few of them."""
    files, making = explorer(), threading.Lock()
    made = cache(lambda path: files[path]())

    class Server(ThreadingHTTPServer):
        request_queue_size = 128  # a browser opens several connections at once

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0].removeprefix(FOLDER) or "index.html"
            if not self.path.startswith(FOLDER) or path not in files:
                self.send_error(404)
                return
            with making:
                body = made(path)
            self.send_response(200)
            self.send_header("content-type", content_type(path) or "")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            with suppress(ConnectionError):  # the page was left
                self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}{FOLDER}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def served() -> Iterator[str]:
    """The address of the served explorer, with its headers and its API."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(application(), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    server.should_exit = True
    thread.join(5)
    listening.close()


@pytest.fixture
def visit(browser: Browser, exported: str) -> Iterator[Open]:
    """Opens a hash of the explorer; at the end of the test nothing may have been said in the console."""
    said: list[str] = []
    contexts = []

    def console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(each in message.text for each in HARMLESS):
            said.append(message.text)

    def visit(place: str = "", base: str | None = None, viewport: dict[str, int] | None = None, **options: Any) -> Page:
        context = browser.new_context(viewport=viewport or DESKTOP, **options)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", console)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto((base or exported) + place)
        page.wait_for_selector("main[aria-busy=false]")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not said
