"""Runs coroutines on uvloop and on plain asyncio, and speaks the protocol over streams."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine to its end on one of the loops."""

    def to_end(coroutine: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            return runner.run(coroutine)

    return to_end


class Line:
    """A client over a pair of streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.info: dict[str, Any] = {}

    async def begin(self, **options: object) -> Line:
        """Reads INFO and connects."""
        line = await self.line()
        assert line.startswith(b"INFO "), line
        self.info = json.loads(line[5:])
        self.send("CONNECT " + json.dumps({"verbose": False, **options}))
        return self

    def send(self, *lines: str) -> None:
        self.writer.write("".join(f"{line}\r\n" for line in lines).encode())

    async def line(self) -> bytes:
        """The next line; b"" at the end."""
        return (await asyncio.wait_for(self.reader.readline(), 10)).rstrip(b"\r\n")

    async def until_pong(self) -> list[bytes]:
        self.send("PING")
        lines = []
        while (line := await self.line()) != b"PONG":
            assert line or not self.reader.at_eof(), lines
            lines.append(line)
        return lines

    async def rest(self) -> bytes:
        return await asyncio.wait_for(self.reader.read(), 10)

    async def close(self) -> None:
        self.writer.close()
        await asyncio.wait_for(self.writer.wait_closed(), 10)


async def dial(server: Any, **options: object) -> Line:
    """A TCP client of an embedded server."""
    return await Line(*await asyncio.open_connection("127.0.0.1", server.ports["nats"])).begin(**options)


async def dial_in_process(server: Any, **options: object) -> Line:
    return await Line(*await server.connect_in_process()).begin(**options)


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A certificate for localhost and its key, as conf/make_certificates.py makes them."""
    folder = tmp_path_factory.mktemp("certificates")
    script = Path(__file__).parents[2] / "conf" / "make_certificates.py"
    subprocess.run([sys.executable, str(script), str(folder)], check=True)
    return {"cert_file": str(folder / "server.pem"), "key_file": str(folder / "server-key.pem")}
