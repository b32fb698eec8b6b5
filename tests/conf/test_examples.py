"""Every configuration in conf/ starts, and does what its comments say; nats-server takes it too, unless it can't."""

from __future__ import annotations

import asyncio
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import nats
import pytest
from nats.errors import Error

import natsc
from tests.reference import nats_server

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.name for path in (ROOT / "conf").glob("*.conf"))
OURS_ALONE = {"logging.conf": "log_format"}

Start = Callable[..., natsc.ThreadServer]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of conf/ with its certificates made as its comments say."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(ROOT / "conf", folder / "conf", ignore=shutil.ignore_patterns("certificates", "__pycache__"))
    subprocess.run([sys.executable, "conf/make_certificates.py"], cwd=folder, check=True)
    return folder


@pytest.fixture(autouse=True)
def encryption_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """What encrypted.conf expects in the environment."""
    monkeypatch.setenv("NATSC_KEY", "k")


@pytest.fixture
def start(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts an example on free ports of this machine."""
    monkeypatch.chdir(folder)
    running = []

    def get(name: str) -> natsc.ThreadServer:
        path = folder / "conf" / name
        ports = {"http": "127.0.0.1:-1"} if re.search(r"^http:", path.read_text(), re.MULTILINE) else {}
        running.append(natsc.run_in_thread(path=path, listen="127.0.0.1:-1", **ports).start())
        return running[-1]

    yield get
    for server in running:
        server.stop()


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_command_takes_it(folder: Path, name: str) -> None:
    command = [sys.executable, "-m", "natsc", "-t", "-c", f"conf/{name}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, f"configuration file conf/{name} is valid" in done.stderr) == (0, True), done.stderr


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name not in OURS_ALONE])
def test_nats_server_takes_it(folder: Path, name: str) -> None:
    command = [nats_server(), "-t", "-c", f"conf/{name}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", EXAMPLES)
def test_it_says_nothing_that_is_not_had_yet(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    from natsc.config import process_config_file

    monkeypatch.chdir(folder)
    opts = process_config_file(f"conf/{name}")
    assert (opts.warnings, opts.unsupported, opts.refused) == ([], [], [])


async def works(server: natsc.ThreadServer, subject: str = "public.x", **options: object) -> bool:
    """Whether a client gets its own message."""
    client = await nats.connect(server.url.replace("tls:", "nats:"), allow_reconnect=False, **options)
    sub = await client.subscribe(subject)
    await client.publish(subject, b"hi")
    try:
        return (await sub.next_msg(timeout=5)).data == b"hi"
    finally:
        await client.close()


@pytest.mark.parametrize("name", ["simple.conf", "monitoring.conf", "limits.conf", "logging.conf", "accounts.conf"])
async def test_it_serves_everybody(start: Start, name: str) -> None:
    assert await works(start(name))


@pytest.mark.parametrize(("user", "password"), [("alice", "secret"), ("bob", "hunter2")])
async def test_auth(start: Start, user: str, password: str) -> None:
    server = start("auth.conf")
    assert await works(server, user=user, password=password)
    with pytest.raises(Error):
        await works(server)


async def test_accounts_do_not_see_each_other(start: Start) -> None:
    server = start("accounts.conf")
    orders = await nats.connect(server.url, user="orders", password="orders")
    guest = await nats.connect(server.url)
    heard = await guest.subscribe(">")
    await guest.flush()
    await orders.publish("x", b"hi")
    await orders.flush()
    await guest.flush()
    assert heard.pending_msgs == 0
    await orders.close()
    await guest.close()


@pytest.mark.parametrize(
    ("user", "publishes", "refused"),
    [
        ("admin", "anything", None),
        ("sensor", "sensors.x", "other"),
        ("dashboard", None, "sensors.x"),
        ("service", None, "anything"),
        ("anyone", "public.x", "other"),
    ],
)
async def test_permissions(start: Start, user: str, publishes: str | None, refused: str | None) -> None:
    server = start("permissions.conf")
    errors: list[str] = []
    told = asyncio.Event()

    async def on_error(error: Exception) -> None:
        errors.append(str(error))
        told.set()

    client = await nats.connect(server.url, user=user, password=user, error_cb=on_error)
    for subject in filter(None, (publishes, refused)):
        await client.publish(subject, b"")
    await client.flush()
    if refused:
        await asyncio.wait_for(told.wait(), 10)
    await client.close()
    assert [refused.lower() in error for error in errors] == [True] if refused else not errors


async def test_tls(start: Start, folder: Path) -> None:
    context = ssl.create_default_context(cafile=str(folder / "conf/certificates/ca.pem"))
    assert await works(start("tls.conf"), tls=context, tls_hostname="localhost")


async def test_mutual_tls(start: Start, folder: Path) -> None:
    made = folder / "conf/certificates"
    context = ssl.create_default_context(cafile=str(made / "ca.pem"))
    server = start("mutual_tls.conf")
    with pytest.raises(Exception, match=r"(?s)."):
        await works(server, "clients.x", tls=context, tls_hostname="localhost", connect_timeout=2)
    context.load_cert_chain(made / "client.pem", made / "client-key.pem")
    assert await works(server, "clients.x", tls=context, tls_hostname="localhost")


async def test_nothing_readable_is_stored(start: Start, folder: Path) -> None:
    client = await nats.connect(start("encrypted.conf").url)
    await client.jetstream().add_stream(name="SECRET", subjects=["SECRET.*"])
    await client.jetstream().publish("SECRET.subject", b"SECRET payload")
    await client.close()
    assert b"SECRET" not in (folder / "encrypted-data/natsc/data.mdb").read_bytes()


async def test_the_log_is_json(start: Start, folder: Path) -> None:
    import json

    start("logging.conf")
    lines = [json.loads(line) for line in (folder / "natsc.log").read_text().splitlines()]
    assert any("Server is ready" in str(line) for line in lines)
