"""Every failpoint is passed by a test: those that tests/crash/kills.py doesn't come to are here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from natsc.jetstream import storetools
from natsc.jetstream.encrypt import open_encrypted
from natsc.jetstream.failpoint import NAMES, VARIABLE
from natsc.jetstream.layout import with_checksum
from natsc.jetstream.store import Store
from tests.conformance.harness import Server

from .kills import FAILPOINTS
from .wire import Wire

COUNT = 12_000  # messages: a stream with fewer writes no checkpoint

# What a process does with the store in the directory WHERE until it is killed. What is printed is acknowledged.
BEGIN = "import sys; from natsc.jetstream.store import Store; where = sys.argv[1]\n"
APPEND = """
stream = s.open_stream("A", "S")
for number in range(stream.last_seq, 200):
    stream.append_bytes(b"s", b"x" * 20000, ts_ns=1)
    s.wait_durable()
    print(number + 1, flush=True)
"""
ENCRYPT = (
    "import sys; from natsc.jetstream.encrypt import open_encrypted; open_encrypted(sys.argv[1], print, key='new')"
)
COMPACT = "import sys; from natsc.jetstream.storetools import main; main('compact', sys.argv[1:])"
STEPS = {
    "store.enlarge": BEGIN + "s = Store(where, map_size=1 << 20)" + APPEND,
    "store.sync": BEGIN + "s = Store(where, sync_interval_ns=1_000_000)" + APPEND + "import time; time.sleep(20)",
    "store.synced": BEGIN + "s = Store(where, sync_interval_ns=1_000_000)" + APPEND + "import time; time.sleep(20)",
    "checkpoint": BEGIN + "s = Store(where); s.open_stream('A', 'S').append_bytes(b's', b'x'); s.close()",
    "key.kept": BEGIN + "Store(where, key='new', old_key='old')",
    "encrypt.copied": ENCRYPT,
    "encrypt.replaced": ENCRYPT,
    "compact.copied": COMPACT,
    "compact.replaced": COMPACT,
}
# Passed in tests/crash/test_kills.py.
ELSEWHERE = {"store.made", "store.formatted", "store.named", *FAILPOINTS}


def killed_at(name: str, where: Path, times: int = 1) -> list[str]:
    """Do the step until it is killed there. What it printed."""
    done = subprocess.run(
        [sys.executable, "-c", STEPS[name], str(where)],
        env={**os.environ, VARIABLE: f"{name}:kill@{times}"}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, (name, done.stderr)
    return done.stdout.split()


def fill(where: Path, key: str = "") -> None:
    store = Store(str(where), sync_interval_ns=-1, map_size=1 << 28, key=key)
    stream = store.open_stream("A", "S")
    for number in range(COUNT):
        stream.append_bytes(b"s.%d" % (number % 3), b"%d" % number, ts_ns=1)
    stream.remove_seq(7)
    store.meta_put(b"stream/A/S", with_checksum(b'{"config":{"name":"S"},"created":1}'))
    store.close()


def check(store: Store, last: int = COUNT) -> None:
    stream = store.open_stream("A", "S")
    assert (stream.last_seq, stream.msgs, stream.lost) == (last, last - 1, [])
    assert stream.get_bytes(COUNT)[4] == b"%d" % (COUNT - 1)
    store.close()


def test_every_failpoint_is_passed() -> None:
    assert NAMES.keys() - STEPS.keys() - ELSEWHERE == {"consumer.deleted"}


@pytest.mark.parametrize("name", ["store.enlarge", "store.sync", "store.synced"])
def test_while_messages_are_stored(name: str, tmp_path: Path) -> None:
    acked = killed_at(name, tmp_path, 1 if name == "store.enlarge" else 10)
    store = Store(str(tmp_path))
    assert store.open_stream("A", "S").last_seq >= int(acked[-1]) > 0
    store.close()


def test_while_a_checkpoint_is_written(tmp_path: Path) -> None:
    fill(tmp_path)
    killed_at("checkpoint", tmp_path)
    store = Store(str(tmp_path))
    last = store.open_stream("A", "S").last_seq
    assert last in (COUNT, COUNT + 1)
    store.close()
    check(Store(str(tmp_path)), last)


def test_while_the_key_changes(tmp_path: Path) -> None:
    """Either key opens the store then, as long as the old one is given too; and the file has the new one again."""
    fill(tmp_path, "old")
    copy = tmp_path / "natsc" / "key"
    before = copy.read_bytes()
    killed_at("key.kept", tmp_path)
    assert copy.read_bytes() == before
    check(Store(str(tmp_path), key="new", old_key="old"))
    assert copy.read_bytes() != before
    check(Store(str(tmp_path), key="new"))


@pytest.mark.parametrize("name", ["encrypt.copied", "encrypt.replaced"])
def test_while_a_plain_store_is_encrypted(name: str, tmp_path: Path) -> None:
    fill(tmp_path)
    killed_at(name, tmp_path)
    check(open_encrypted(str(tmp_path), lambda _: None, key="new"))
    assert sorted(os.listdir(tmp_path / "natsc")) == ["data.mdb", "id", "key", "lock.mdb", "owner"]
    check(Store(str(tmp_path), key="new"))


def test_while_a_damaged_plain_store_is_encrypted(tmp_path: Path) -> None:
    """What is damaged is kept: the attempt that was killed has done that already."""
    fill(tmp_path)
    data = tmp_path / "natsc" / "data.mdb"
    content = data.read_bytes()
    at = content.index(b"s.2" + b"11999")
    data.write_bytes(content[:at] + b"s.2" + b"11998" + content[at + 8 :])
    killed_at("encrypt.copied", tmp_path)
    os.link(data, data.with_suffix(".mdb.plain"))  # and a moment later
    open_encrypted(str(tmp_path), lambda _: None, key="new").close()
    assert data.with_suffix(".mdb.plain").read_bytes()[at : at + 8] == b"s.211998"


@pytest.mark.parametrize("name", ["compact.copied", "compact.replaced"])
def test_while_a_store_is_compacted(name: str, tmp_path: Path) -> None:
    fill(tmp_path)
    before = (tmp_path / "natsc" / "data.mdb").stat().st_size
    killed_at(name, tmp_path)
    check(Store(str(tmp_path)))
    assert not (tmp_path / "natsc" / "compact").exists()
    assert storetools.main("compact", [str(tmp_path)]) == 0
    check(Store(str(tmp_path)))
    assert (tmp_path / "natsc" / "data.mdb").stat().st_size <= before


def test_while_a_consumer_is_deleted(tmp_path: Path) -> None:
    """It is there or not, and if it is, with its state or from the beginning."""
    config = f'jetstream {{ store_dir: "{tmp_path}" }}\n'
    server = Server("natsc", config, environment={VARIABLE: "consumer.deleted:kill"})
    wire = Wire(server.port)
    wire.request("$JS.API.STREAM.CREATE.S", b'{"name":"S","subjects":["s"]}')
    made = b'{"stream_name":"S","config":{"durable_name":"C","ack_policy":"explicit"}}'
    assert b"error" not in wire.request("$JS.API.CONSUMER.CREATE.S.C", made)
    wire.ask(b"$JS.API.CONSUMER.DELETE.S.C", b"", lambda *_: None)
    while not wire.closed:
        wire.pump()
    assert server.wait() == -signal.SIGKILL
    wire.close()
    server.close()
    server = Server("natsc", config)
    wire = Wire(server.port)
    assert b'"success":true' in wire.request("$JS.API.CONSUMER.DELETE.S.C", b"")
    assert b"error" not in wire.request("$JS.API.CONSUMER.CREATE.S.C", made)
    wire.close()
    server.close()
