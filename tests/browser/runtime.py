"""What runs JavaScript: the packages of package-lock.json, node, and a headless Chromium with a page of the test's own.

Where a machine lacks one of them the test is skipped, and says which; .ci/run installs them.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"  # ignored by Git; .package-lock.json in it says what it holds
INSTALL_TIMEOUT_S = 180
RUN_TIMEOUT_S = 180
_BROWSERS = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
_REQUIRE = re.compile(r'require\("([^"]+)"\)')


def _found(*programs: str) -> str:
    """The path of the first of them that there is."""
    for program in programs:
        if path := shutil.which(program):
            return path
    pytest.skip(f"there is no {programs[0]} on this machine")


def install() -> None:
    """Have npm put the locked packages into node_modules, once for all processes of a test run."""
    npm = _found("npm")
    lock = (HERE / "package-lock.json").read_bytes()
    mark = MODULES / ".natsc-lock"
    with open(Path(tempfile.gettempdir()) / f"natsc-npm-{os.getuid()}.lock", "w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if mark.exists() and mark.read_bytes() == lock:
            return
        command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
        try:
            subprocess.run(command, cwd=HERE, check=True, capture_output=True, timeout=INSTALL_TIMEOUT_S)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            pytest.skip(f"npm can't install the packages of tests/browser: {(error.stderr or b'').decode()[-500:]}")
        mark.write_bytes(lock)


def run_in_node(cases: list[dict[str, Any]], ca_file: Path) -> dict[str, Any]:
    """What came of the cases; see scenario.js."""
    node = _found("node", "nodejs")
    install()
    flags = []
    for flags in ([], ["--experimental-websocket"]):
        probe = subprocess.run([node, *flags, "-p", "typeof WebSocket"], capture_output=True, timeout=60)
        if probe.stdout.strip() == b"function":
            break
    else:
        pytest.skip("this node has no WebSocket (it came with node 20.10)")
    environment = {**os.environ, "NODE_EXTRA_CA_CERTS": str(ca_file)}
    command = [node, *flags, "node.mjs", json.dumps(cases)]
    run = subprocess.run(command, cwd=HERE, env=environment, capture_output=True, timeout=RUN_TIMEOUT_S)
    assert run.returncode == 0, run.stderr.decode()
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def bundle(*packages: str) -> str:
    """CommonJS packages and all that they require as one module for a browser; load(name) gives one of them."""
    files: dict[Path, dict[str, str]] = {}
    waiting = [_resolve(HERE, name) for name in packages]
    while waiting:
        path = waiting.pop()
        if path is None or path in files:
            continue
        files[path] = {}
        for name in set(_REQUIRE.findall(path.read_text())):
            if (target := _resolve(path, name)) is not None:
                files[path][name] = str(target.relative_to(MODULES))
                waiting.append(target)
    bodies = ",\n".join(
        f"{json.dumps(str(path.relative_to(MODULES)))}: [{json.dumps(names)}, (require, module, exports) => {{"
        f"\n{path.read_text()}\n}}]"
        for path, names in files.items()
    )
    roots = {name: str(path.relative_to(MODULES)) for name in packages if (path := _resolve(HERE, name)) is not None}
    return f"""
        const files = {{{bodies}}}, roots = {json.dumps(roots)}, loaded = {{}};
        function get(path) {{
            if (!(path in loaded)) {{
                const [names, body] = files[path], module = loaded[path] = {{exports: {{}}}};
                body((name) => get(names[name]), module, module.exports);
            }}
            return loaded[path].exports;
        }}
        export const load = (name) => get(roots[name]);
    """


def _resolve(origin: Path, name: str) -> Path | None:
    """The file that a file requires by a name; None where that is a part of node."""
    if name.startswith("."):
        path = (origin.parent / name).resolve()
        return path if path.is_file() else path.with_name(path.name + ".js")
    scope, _, rest = name.partition("/")
    package, _, part = rest.partition("/") if scope.startswith("@") else ("", "", rest)
    folder = MODULES / scope / package if package else MODULES / scope
    if not folder.is_dir():
        return None
    about = json.loads((folder / "package.json").read_text())
    target = about.get("exports", {}).get(f"./{part}" if part else ".") or about.get("main", "index.js")
    while isinstance(target, dict):
        target = target.get("require") or target["default"]
    return (folder / target).resolve()


class _Page(ThreadingHTTPServer):
    """Serves the page and takes what it hands in."""

    def __init__(self, cases: list[dict[str, Any]], cookies: list[str]) -> None:
        self.cases = json.dumps({"cases": cases, "cookies": cookies})
        self.bundle = bundle("@nats-io/nats-core", "@nats-io/jetstream")
        self.result: dict[str, Any] = {}
        self.done = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Page

    def do_GET(self) -> None:
        pages = {
            "/": ("text/html", '<!doctype html><script type="module" src="/page.js"></script>'),
            "/cases": ("application/json", self.server.cases),
            "/bundle.js": ("text/javascript", self.server.bundle),
        }
        kind, text = pages.get(self.path, ("text/javascript", ""))
        path = (HERE / self.path[1:]).resolve()
        if not text and path.is_relative_to(HERE) and path.suffix == ".js" and path.is_file():
            text = path.read_text()
        self.answer(200 if text else 404, kind, text)

    def do_POST(self) -> None:
        self.server.result = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(200, "text/plain", "")
        self.server.done.set()

    def answer(self, status: int, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class Browser:
    """A page on a free port, opened by run(). `origin` is what the browser says that the page comes from."""

    def __init__(self) -> None:
        self.program = _found(*_BROWSERS)
        install()
        self.page = _Page([], [])
        self.origin = f"http://127.0.0.1:{self.page.server_port}"
        threading.Thread(target=self.page.serve_forever, daemon=True).start()

    def run(self, cases: list[dict[str, Any]], cookies: list[str]) -> dict[str, Any]:
        """What the page handed in."""
        self.page.cases = json.dumps({"cases": cases, "cookies": cookies})
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
            command = [
                self.program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--ignore-certificate-errors", "--remote-debugging-port=0", f"--user-data-dir={profile}",
                f"{self.origin}/",
            ]  # fmt: skip
            log = Path(profile) / "log"
            with open(log, "wb") as output:
                process = subprocess.Popen(
                    command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
                )
            try:
                if not self.page.done.wait(RUN_TIMEOUT_S):
                    raise AssertionError(f"the page handed nothing in; the browser said: {log.read_text()[-2000:]}")
            finally:
                os.killpg(process.pid, 9)  # the browser and what it started
                process.wait(10)
        return self.page.result

    def close(self) -> None:
        self.page.shutdown()
        self.page.server_close()
