"""Scripts of commands that are run against natsc and against nats-server, and their records: what must be the same.

A script is a text file. Each of its lines is one of:

    # ...                a comment
    | ...                a line of the server's configuration; DIR is the run's own folder, BESIDE
                         the same for include
    $ COMMAND            run it in a shell, in the run's folder
    & COMMAND            the same in the background
    start                start the server; without it, the server starts before the first command
    until SUBJECT        wait until a client subscribes to the subject; "until 2 SUBJECT": two of them
    until $ COMMAND      wait until the command succeeds
    stop, wait           end the oldest command in the background or wait for its end; record what it said
    hide REGEX           what matches is left out from here on (or its groups, where it has some)
    drop REGEX           lines that it matches are left out from here on
    sorted               the next command's lines are compared in any order
    differs HEADING      the next command's answer differs, as docs/differences.md says under this heading

A command's environment has NATS_URL, SERVER_ID, CONFIG (the configuration file) and a HOME of its own. What differs
from run to run (ids, times, ports) is replaced in the record.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conformance.harness import Server, Wire

COMMAND_S = 30.0
RECORDED = ("$", "stop", "wait")
VARYING = {
    "server_id", "id", "now", "start", "uptime", "mem", "cpu", "rtt", "pid", "memory_used", "time", "timestamp", "ts",
    "created", "last_active", "first_ts", "last_ts", "started", "stop", "last_activity", "idle", "config_load_time",
    "cores", "gomaxprocs", "gomemlimit", "xkey", "config_digest", "average_processing_time", "processing_time",
}  # fmt: skip
# Applied to each line, in this order.
GENERAL = [
    (re.compile(pattern), by)
    for pattern, by in (
        (r"\x1b\[[0-9;]*[A-Za-z]", ""),
        (r"eyJ[\w-]+\.[\w-]+\.[\w-]+", "JWT"),
        (r"\bS[NOAUCX][A-Z2-7]{56}\b", "SEED"),
        (r"\b[NOAUCX][A-Z2-7]{55}\b", "KEY"),
        (r"\bsha256:[0-9a-f]{64}\b", "DIGEST"),
        (r"_INBOX\.[0-9A-Za-z]{22}(\.[0-9A-Za-z]+)?", "INBOX"),
        (r"\b(?=[0-9A-Za-z]*\d)(?=[0-9A-Za-z]*[A-Z])[0-9A-Za-z]{22}\b", "NUID"),
        (r"\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( ?(Z|UTC|[+-]\d\d:?\d\d))*", "TIME"),
        (r"\b\d\d:\d\d:\d\d(\.\d+)?\b", "TIME"),
        (r"(127\.0\.0\.1|0\.0\.0\.0|localhost):\d+", r"\1:PORT"),
        (r"(?<![\w.])(\d+m)?\d+(\.\d+)?(ms|µs|us|ns)\b", "DURATION"),
        (r"(?<![\w.])(\d+m)?\d+\.\d+s\b", "DURATION"),
        (r"[─━═╌]+", "─"),
        (r"\b(handler:?) \d+", r"\1 NUMBER"),
        (r"\b(Handler:?) \d+", r"\1 NUMBER"),
        (r"\s+", " "),
        (r" $", ""),
    )
]


@dataclass
class Step:
    """One line of a script, and what lines before it said about it."""

    line: int
    kind: str
    text: str
    hide: tuple[re.Pattern[str], ...]
    drop: tuple[re.Pattern[str], ...]
    sorted: bool
    differs: str


@dataclass
class Script:
    """A script as it was read."""

    path: Path
    config: str = ""
    steps: list[Step] = field(default_factory=list)


def read_script(path: Path) -> Script:
    """The script in a file; ValueError where a line is none of those above."""
    script = Script(path)
    hide: tuple[re.Pattern[str], ...] = ()
    drop: tuple[re.Pattern[str], ...] = ()
    any_order, differs = False, ""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        word, _, rest = line.partition(" ")
        if word == "|":
            script.config += rest + "\n"
        elif word == "hide":
            hide += (re.compile(rest),)
        elif word == "drop":
            drop += (re.compile(rest),)
        elif word == "sorted":
            any_order = True
        elif word == "differs":
            differs = rest
        elif word in (*RECORDED, "&", "until", "start"):
            script.steps.append(Step(number, word, rest, hide, drop, any_order, differs))
            any_order, differs = False, ""
        elif line and not line.startswith("#"):
            raise ValueError(f"{path}:{number}: {line!r} is no line of a script")
    return script


@dataclass
class Record:
    """What a step said, without what differs from run to run. failed: wrong, whatever the other server said."""

    step: Step
    command: str
    lines: list[str]
    failed: bool = False
    seconds: float = 0


class Run:
    """A script's run against one server. Ends what it started, whatever happens."""

    def __init__(self, kind: str, script: Script) -> None:
        self.kind = kind
        self.script = script
        self.records: list[Record] = []
        self._server: Server | None = None
        self._background: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._dir = Path(tempfile.mkdtemp(prefix="natsc-clients-"))
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("NATS_", "XDG_"))},
            "PATH": f"{os.environ['PATH']}{os.pathsep}{Path(sys.executable).parent}",
            **{name: str(self._dir / "home") for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")},
            "TZ": "UTC",
        }
        (self._dir / "home").mkdir()

    def run(self) -> list[Record]:
        try:
            if not any(step.kind == "start" for step in self.script.steps):
                self._start()
            for step in self.script.steps:
                self._step(step)
            return self.records
        finally:
            for _, process in self._background:
                self._end(process, signal.SIGKILL)
            if self._server:
                self._server.close()
            shutil.rmtree(self._dir)

    def _start(self) -> None:
        config = self.script.config.replace("BESIDE", f"../{self._dir.name}").replace("DIR", str(self._dir))
        self._server = Server(self.kind, "http: 127.0.0.1:-1\n" + config)
        with Wire(self._server) as wire:
            self._environment |= {"NATS_URL": self._server.url, "SERVER_ID": wire.info["server_id"]}
        self._environment["CONFIG"] = str(self._server.config_path)

    def _step(self, step: Step) -> None:
        if step.kind == "start":
            self._start()
        elif step.kind == "until":
            self._until(step)
        elif step.kind == "&":
            self._background.append((step.text, self._spawn(step.text)))
        elif step.kind == "$":
            self._record(step, step.text, self._spawn(step.text))
        else:
            command, process = self._background.pop(0)
            if step.kind == "stop":
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGINT)
            self._record(step, command, process)

    def _spawn(self, command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["bash", "-c", command],
            cwd=self._dir,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _record(self, step: Step, command: str, process: subprocess.Popen[bytes]) -> None:
        began = time.monotonic()
        try:
            said = process.communicate(timeout=COMMAND_S)[0]
        except subprocess.TimeoutExpired:
            self._end(process, signal.SIGKILL)
            said = process.communicate()[0] + b"\n(not ended in time)\n"
        lines = [*self._steady(step, said.decode(errors="replace")), f"exit code {process.returncode}"]
        lines = sorted(line.rstrip(",") for line in lines) if step.sorted else lines
        self.records.append(Record(step, command, lines, seconds=time.monotonic() - began))

    def _end(self, process: subprocess.Popen[bytes], number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        process.wait()

    def _until(self, step: Step) -> None:
        deadline = time.monotonic() + COMMAND_S
        while not (self._succeeds(step.text[2:]) if step.text.startswith("$ ") else self._subscribed(step.text)):
            if time.monotonic() > deadline:
                background = [self._so_far(*one) for one in self._background]
                self.records.append(Record(step, step.text, ["doesn't come; in the background:", *background], True))
                return
            time.sleep(0.02)

    def _so_far(self, command: str, process: subprocess.Popen[bytes]) -> str:
        """For an error: a command in the background, ended, and what it has said."""
        self._end(process, signal.SIGKILL)
        return f"{command}: {process.communicate()[0].decode(errors='replace')}"

    def _subscribed(self, text: str) -> bool:
        assert self._server
        count, _, subject = text.rpartition(" ")
        lists = [entry.get("subscriptions_list", ()) for entry in self._server.connz("subs=1&auth=1")]
        return sum(subject in subjects for subjects in lists) >= int(count or 1)

    def _succeeds(self, command: str) -> bool:
        return self._spawn(command).wait(COMMAND_S) == 0

    def _steady(self, step: Step, said: str) -> list[str]:
        """The lines, JSON spread out, with everything replaced that varies."""
        said = said.replace(str(self._dir), "DIR")
        if self._server:
            said = said.replace(str(self._server.dir), "CONFIG_DIR").replace(str(self._server.pid), "PID")
        lines = (_replace(step, line) for line in _spread(said))
        return [line for line in lines if line and not any(pattern.search(line) for pattern in step.drop)]


def _spread(said: str) -> Iterable[str]:
    """The lines of a text; JSON, of the whole text or of a line, is spread over lines, one a member."""
    with contextlib.suppress(ValueError):
        yield from _members(json.loads(said))
        return
    for line in said.splitlines():
        start = line.find("{")
        try:
            value = json.loads(line[start:]) if start >= 0 else None
        except ValueError:
            value = None
        if isinstance(value, dict):
            yield line[:start]
            yield from _members(value)
        else:
            yield line


def _members(value: Any) -> Iterable[str]:
    yield from json.dumps(_without_varying(value), indent=1, ensure_ascii=False).splitlines()


def _without_varying(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: "VARYING" if name in VARYING else _without_varying(member) for name, member in value.items()}
    return [_without_varying(one) for one in value] if isinstance(value, list) else value


def _replace(step: Step, line: str) -> str:
    for pattern, by in GENERAL:
        line = pattern.sub(by, line)
    for hidden in step.hide:
        line = hidden.sub(lambda match: _without_groups(match) if match.re.groups else "…", line)
    return line


def _without_groups(match: re.Match[str]) -> str:
    """What matched, with … in the place of each group that has a part in it."""
    text, base = match[0], match.start()
    for group in range(match.re.groups, 0, -1):
        start, end = match.span(group)
        if start >= 0:
            text = text[: start - base] + "…" + text[end - base :]
    return text
