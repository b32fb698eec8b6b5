"""A disk that is full or fails: publishers hear of it, nothing is acknowledged falsely, and a restart finds the rest.

A library that is preloaded (failing.c) makes calls on the store's data file fail.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from natsc.jetstream.layout import with_checksum
from natsc.jetstream.store import Store
from tests.conformance.harness import Server

from .backups import backup, restore
from .client import Client

STREAM = {"name": "S", "subjects": ["s"], "allow_direct": True}


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """failing.c, compiled."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "a C compiler is needed"
    built = tmp_path_factory.mktemp("failing") / "failing.so"
    source = Path(__file__).with_name("failing.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", built, source, "-ldl"], check=True, timeout=50)
    return built


class Faulty:
    """A server whose disk can be made to fail."""

    def __init__(self, library: Path, where: Path, more: str = "", name: str = "data.mdb") -> None:
        self.control = where / "control"
        self.config = f'http: "127.0.0.1:-1"\njetstream {{ store_dir: "{where}"\n{more} }}\n'
        self.environment = {"LD_PRELOAD": str(library), "NATSC_FAIL": str(self.control), "NATSC_FAIL_FILE": f"/{name}"}
        self.start(self.environment)

    def start(self, environment: dict[str, str] | None = None) -> None:
        self.server = Server("natsc", self.config, environment=environment)
        self.client = Client(self.server.port)

    def fail(self, call: str, code: int, after: int = 0) -> None:
        """From now on calls of that name fail, once `after` of them went through."""
        self.control.with_suffix(".calls").write_text("")
        new = self.control.with_suffix(".new")
        new.write_text(f"{call} {code} {after}\n")
        new.replace(self.control)

    def calls(self) -> list[str]:
        return self.control.with_suffix(".calls").read_text().splitlines()

    def publish(self, subject: str = "s", count: int = 1) -> list[Any]:
        return [json.loads(self.client.request(subject, b"x" * 100).payload) for _ in range(count)]

    def api(self, operation: str, body: object = None) -> Any:
        payload = b"" if body is None else json.dumps(body).encode()
        return json.loads(self.client.request(f"$JS.API.{operation}", payload).payload)

    def healthy(self) -> tuple[int, Any]:
        answer = self.server.get("/healthz")
        return answer.status, answer.json()

    def stop(self) -> None:
        self.client.__exit__()
        self.server.signal(signal.SIGTERM)
        assert self.server.wait() == 0
        self.server.close()

    def restart(self) -> None:
        """Stop it, and start it with a disk that works."""
        self.stop()
        self.start()

    def close(self) -> None:
        self.client.__exit__()
        self.server.close()


@pytest.fixture
def faulty(library: Path, tmp_path: Path) -> Iterator[Faulty]:
    made = Faulty(library, tmp_path)
    assert "error" not in made.api("STREAM.CREATE.S", STREAM)
    assert [answer["seq"] for answer in made.publish(count=5)] == [1, 2, 3, 4, 5]
    yield made
    made.close()


FAILURES = [
    ("fdatasync", errno.EIO, 0, "Input/output error"),
    ("fdatasync", errno.ENOSPC, 2, "No space left on device"),
    ("write", errno.ENOSPC, 0, "No space left on device"),
    ("write", errno.EIO, 0, "Input/output error"),
    ("write", errno.EIO, 1, "Input/output error"),  # the page that makes a transaction valid
    ("write", errno.EDQUOT, 7, "Disk quota exceeded"),
]


@pytest.mark.parametrize(("call", "code", "after", "text"), FAILURES)
def test_the_first_failure_is_the_last_write(faulty: Faulty, call: str, code: int, after: int, text: str) -> None:
    faulty.fail(call, code, after)
    answers = faulty.publish(count=8)
    acked = [answer["seq"] for answer in answers if "error" not in answer]
    assert acked == list(range(6, 6 + len(acked)))
    refused = answers[len(acked) :]
    assert refused and all(answer["error"]["err_code"] == 10077 for answer in refused)
    assert all(answer["error"]["code"] == 503 for answer in refused)
    assert text in refused[-1]["error"]["description"]

    faulty.server.wait_log(rf"\[ERR\] JetStream storage failed .*{text}: nothing more is stored until the server is")
    assert faulty.healthy()[0] == 503
    failed = [line for line in faulty.calls() if not line.endswith(" 0")]
    assert failed[0] == f"{call} {code}"
    synced = [line for line in faulty.calls() if line.startswith("fdatasync")]
    assert failed.count(f"fdatasync {code}") <= 1
    assert call != "fdatasync" or synced[-1] == failed[0], "nothing is synced once a sync has failed"

    faulty.restart()
    state = faulty.api("STREAM.INFO.S")["state"]
    assert 5 + len(acked) <= state["last_seq"] <= 5 + len(acked) + 1
    assert state["messages"] == state["last_seq"]
    assert faulty.publish()[0]["seq"] == state["last_seq"] + 1
    assert faulty.healthy()[0] == 200


WRITING = [
    ("STREAM.CREATE.T", {"name": "T", "subjects": ["t"]}),
    ("STREAM.UPDATE.S", {**STREAM, "subjects": ["s", "s2"]}),
    ("STREAM.PURGE.S", {}),
    ("STREAM.MSG.DELETE.S", {"seq": 1}),
    ("CONSUMER.CREATE.S.D", {"stream_name": "S", "config": {"durable_name": "D", "ack_policy": "explicit"}}),
    ("CONSUMER.DELETE.S.C", None),
    ("STREAM.DELETE.S", None),
]


def test_what_the_api_answers_after_a_failure(faulty: Faulty) -> None:
    consumer = {"stream_name": "S", "config": {"durable_name": "C", "ack_policy": "explicit"}}
    assert "error" not in faulty.api("CONSUMER.CREATE.S.C", consumer)
    assert "error" not in faulty.api("STREAM.CREATE.M", {"name": "M", "subjects": ["m"], "storage": "memory"})
    faulty.fail("fdatasync", errno.EIO)
    first = faulty.api("STREAM.UPDATE.S", {**STREAM, "subjects": ["s", "s3"]})
    assert first["type"] == "io.nats.jetstream.api.v1.stream_update_response"
    assert first["error"] == {"code": 503, "err_code": 10077, "description": "store failed"}
    for operation, body in WRITING:
        answer = faulty.api(operation, body)
        assert (answer["error"]["code"], answer["error"]["err_code"]) == (503, 10077), operation
        assert "Input/output error" in answer["error"]["description"]
    assert faulty.publish("m")[0]["seq"] == 1, "streams in memory go on"
    assert faulty.api("STREAM.INFO.S")["state"]["messages"] == 5
    assert faulty.api("STREAM.MSG.GET.S", {"seq": 1})["message"]["seq"] == 1
    assert faulty.client.request("$JS.API.DIRECT.GET.S", b'{"seq": 2}').payload == b"x" * 100
    assert faulty.api("CONSUMER.INFO.S.C")["num_pending"] == 5
    assert not [line for line in faulty.server.log if "Traceback" in line]

    faulty.restart()
    assert faulty.api("STREAM.INFO.S")["config"]["subjects"] == ["s"]
    assert faulty.api("STREAM.NAMES")["streams"] == ["S"]
    assert faulty.api("CONSUMER.NAMES.S")["consumers"] == ["C"]


def test_a_confirmed_acknowledgement_is_not_confirmed(faulty: Faulty) -> None:
    consumer = {"stream_name": "S", "config": {"durable_name": "C", "ack_policy": "explicit"}}
    assert "error" not in faulty.api("CONSUMER.CREATE.S.C", consumer)
    (ack,) = faulty.client.deliveries("$JS.API.CONSUMER.MSG.NEXT.S.C", b"1", 1)
    faulty.fail("fdatasync", errno.EIO)
    faulty.client.send(ack, b"+ACK")
    faulty.server.wait_log("nothing more is stored")
    assert faulty.api("STREAM.INFO.S")["state"]["messages"] == 5
    assert not faulty.client.unexpected
    faulty.restart()
    assert faulty.api("CONSUMER.INFO.S.C")["num_ack_pending"] <= 1
    assert faulty.api("CONSUMER.INFO.S.C")["ack_floor"]["stream_seq"] == 0


CONSUMER = {"stream_name": "S", "config": {"durable_name": "C", "ack_policy": "explicit"}}


@pytest.mark.parametrize(("call", "code"), [("fdatasync", errno.EIO), ("write", errno.ENOSPC)])
@pytest.mark.parametrize(("operation", "body"), WRITING)
def test_what_the_api_could_not_store_it_does_not_confirm(
    faulty: Faulty, operation: str, body: object, call: str, code: int
) -> None:
    """The request is the first one that fails: it is refused, and after a restart all is as it was."""
    assert "error" not in faulty.api("CONSUMER.CREATE.S.C", CONSUMER)
    before = faulty.api("STREAM.INFO.S")
    faulty.fail(call, code)
    error = faulty.api(operation, body)["error"]
    assert (error["code"], error["err_code"]) == (503, 10077)
    assert not [line for line in faulty.server.log if "Traceback" in line]
    faulty.restart()
    after = faulty.api("STREAM.INFO.S")
    assert (after["config"], after["state"]) == (before["config"], before["state"])
    assert faulty.api("CONSUMER.NAMES.S")["consumers"] == ["C"]
    assert faulty.api("STREAM.NAMES")["streams"] == ["S"]


@pytest.mark.parametrize("after", [0, 2, 6])
def test_a_restore_is_not_confirmed(faulty: Faulty, after: int) -> None:
    """Wherever it fails, the stream isn't there after a restart, or is whole."""
    for number in range(300):
        faulty.client.request("s", b"%d" % number * 1000)
    saved = backup(faulty.client, "S")
    config = {**saved.answer["config"], "name": "T", "subjects": ["t"]}
    faulty.fail("write", errno.ENOSPC, after)
    try:
        answer = restore(faulty.client, config, saved.archive)
    except AssertionError as refused:  # not even begun
        assert "10077" in str(refused)
    else:
        assert answer["error"]["err_code"] in (10077, 10062), answer
    faulty.server.wait_log("nothing more is stored")
    assert not [line for line in faulty.server.log if "Traceback" in line]
    faulty.restart()
    assert faulty.api("STREAM.NAMES")["streams"] == ["S"]
    assert restore(faulty.client, config, saved.archive)["state"]["messages"] == 305


def test_a_snapshot_needs_no_disk_to_write_to(faulty: Faulty) -> None:
    faulty.fail("fdatasync", errno.EIO)
    assert "error" in faulty.publish()[0]
    saved = backup(faulty.client, "S")
    assert saved.answer["state"]["messages"] >= 5
    faulty.restart()
    config = {**saved.answer["config"], "name": "T", "subjects": ["t"]}
    assert restore(faulty.client, config, saved.archive)["state"]["messages"] >= 5


def test_consumers_go_on_with_what_is_there(faulty: Faulty) -> None:
    """What they deliver and what is acknowledged isn't kept any more: that is delivered again after a restart."""
    assert "error" not in faulty.api("CONSUMER.CREATE.S.C", CONSUMER)
    faulty.fail("fdatasync", errno.EIO)
    assert "error" in faulty.publish()[0]
    acks = faulty.client.deliveries("$JS.API.CONSUMER.MSG.NEXT.S.C", b'{"batch":5}', 5)
    for ack in acks:
        faulty.client.write(f"PUB {ack} 4\r\n+ACK\r\n".encode())
    assert faulty.api("CONSUMER.INFO.S.C")["num_ack_pending"] == 0
    assert not [line for line in faulty.server.log if "Traceback" in line]
    faulty.restart()
    assert faulty.api("CONSUMER.INFO.S.C")["ack_floor"]["stream_seq"] == 0
    assert len(faulty.client.deliveries("$JS.API.CONSUMER.MSG.NEXT.S.C", b'{"batch":5}', 5)) == 5


@pytest.mark.parametrize("name", ["data.mdb", "synced"])
def test_a_sync_at_an_interval_that_fails(library: Path, tmp_path: Path, name: str) -> None:
    faulty = Faulty(library, tmp_path, "sync_interval: 50ms", name)
    try:
        assert "error" not in faulty.api("STREAM.CREATE.S", STREAM)
        faulty.fail("fdatasync" if name == "data.mdb" else "write", errno.EIO)
        faulty.publish()
        faulty.server.wait_log(r"\[ERR\] JetStream storage failed \(sync\): Input/output error")
        assert faulty.publish()[0]["error"]["err_code"] == 10077
        assert faulty.healthy()[0] == 503
        faulty.restart()
        assert faulty.publish()[0]["seq"] in (1, 2)
    finally:
        faulty.close()


# The tools


def tool(library: Path, where: Path, name: str, *failing: object) -> subprocess.CompletedProcess[str]:
    (where / "control").write_text(" ".join(map(str, failing)) + "\n")
    return subprocess.run(
        [sys.executable, "-m", "natsc", name, str(where)],
        env={**os.environ, "LD_PRELOAD": str(library), "NATSC_FAIL": str(where / "control")},
        capture_output=True, text=True, timeout=50,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("failing", "text"),
    [
        (("write", errno.ENOSPC, 0), "No space left on device"),
        (("write", errno.EIO, 0), "Input/output error"),
        (("fdatasync", errno.EIO, 0), "Input/output error"),
        (("fdatasync", errno.EIO, 1), "Input/output error"),
    ],
)
def test_a_compaction_that_fails_changes_nothing(
    library: Path, tmp_path: Path, failing: tuple[object, ...], text: str
) -> None:
    store = Store(str(tmp_path), map_size=1 << 28)
    store.meta_put(b"stream/A/S", with_checksum(b'{"config":{"name":"S"},"created":1}'))
    stream = store.open_stream("A", "S")
    for _ in range(50):
        stream.append_bytes(b"s", b"x" * 3000, ts_ns=1)
    store.close()
    data = tmp_path / "natsc" / "data.mdb"
    before = data.read_bytes()
    done = tool(library, tmp_path, "compact", *failing)
    assert done.returncode == 2
    assert text in done.stderr and "Traceback" not in done.stderr
    assert data.read_bytes() == before
    assert tool(library, tmp_path, "compact", "none", 0, 0).returncode == 0
    assert tool(library, tmp_path, "fsck", "none", 0, 0).returncode == 0


@pytest.mark.parametrize("failing", [("write", errno.ENOSPC, 3), ("fdatasync", errno.EIO, 2)])
def test_a_plain_store_that_cannot_be_encrypted_stays_plain(
    library: Path, tmp_path: Path, failing: tuple[str, int, int]
) -> None:
    faulty = Faulty(library, tmp_path)
    assert "error" not in faulty.api("STREAM.CREATE.S", STREAM)
    faulty.publish(count=5)
    faulty.stop()
    faulty.fail(*failing)
    encrypted = faulty.config.replace("jetstream {", "jetstream { key: k,")
    server = Server("natsc", encrypted, environment=faulty.environment, wait=False)
    try:
        server.wait_log(r"\[FTL\] Can't start JetStream: .*(No space left on device|Input/output error)")
        assert server.wait() == 1
        assert not [line for line in server.log if "Traceback" in line]
    finally:
        server.close()
    faulty.start()
    assert faulty.api("STREAM.INFO.S")["state"]["messages"] == 5
    faulty.close()
