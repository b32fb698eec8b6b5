"""natsc fsck and natsc compact: on a store that a server has written, whole and damaged in every way."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest

from natsc.jetstream import storetools
from natsc.jetstream.api import PREFIX
from natsc.jetstream.fsck import _folder
from natsc.jetstream.layout import with_checksum
from natsc.jetstream.store import Store
from tests.conformance.harness import KINDS, Server
from tests.jetstream.backups import entries, restore
from tests.jetstream.client import Client

MARK = b"a payload that is found in the file %d "
COUNT = 50


def fill(client: Client) -> None:
    def api(operation: str, **body: Any) -> None:
        assert b'"error"' not in client.request(PREFIX + operation, json.dumps(body).encode()).payload

    api("STREAM.CREATE.S", name="S", subjects=["s.>"])
    api("STREAM.CREATE.OTHER", name="OTHER", subjects=["other"])
    for number in range(COUNT):
        client.request(f"s.{number % 3}", MARK % number + b"x" * 3000, b"NATS/1.0\r\nA: b\r\n\r\n")
    client.request("other", b"untouched")
    config = {"name": "C", "durable_name": "C", "ack_policy": "explicit"}
    api("CONSUMER.CREATE.S.C", stream_name="S", config=config)
    replies = client.deliveries(f"{PREFIX}CONSUMER.MSG.NEXT.S.C", b'{"batch":4}', 4)
    client.request(replies[0])
    client.request(replies[2])
    api("STREAM.MSG.DELETE.S", seq=9)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store directory that a server has left."""
    store = tmp_path_factory.mktemp("original")
    server = Server("natsc", f'jetstream {{ store_dir: "{store}" }}\n')
    try:
        with Client(server.port) as client:
            fill(client)
    finally:
        server.close()
    return store


@pytest.fixture
def store(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "store"))


Tool = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def fsck(store: Path, capsys: pytest.CaptureFixture[str]) -> Tool:
    def run(*options: str) -> tuple[int, dict[str, Any]]:
        code = storetools.main("fsck", ["--json", *options, str(store)])
        return code, json.loads(capsys.readouterr().out)

    return run


def of(report: dict[str, Any], stream: str) -> dict[str, Any]:
    [found] = [one for one in report["streams"] if one["stream"] == stream]
    return dict(found)


def flip(store: Path, text: bytes, offset: int = 0) -> None:
    """Flip a bit of the file, in the one place where this text is."""
    path = store / "natsc" / "data.mdb"
    data = bytearray(path.read_bytes())
    assert data.count(text) == 1
    data[data.index(text) + offset] ^= 1
    path.write_bytes(data)


def edit(store: Path, change: Callable[[lmdb.Environment, lmdb.Transaction], None]) -> None:
    with lmdb.open(str(store / "natsc"), max_dbs=100, map_size=1 << 30) as env, env.begin(write=True) as txn:
        change(env, txn)


def meta(change: Callable[[lmdb.Transaction, Any], None]) -> Callable[[lmdb.Environment, lmdb.Transaction], None]:
    return lambda env, txn: change(txn, env.open_db(b"meta", txn=txn))


# -- fsck -------------------------------------------------------------------------------------------------------------


def test_a_whole_store(fsck: Tool, store: Path) -> None:
    before = hashlib.sha256((store / "natsc" / "data.mdb").read_bytes()).digest()
    code, report = fsck()
    assert code == 0
    assert report["whole"] is True
    assert (report["format"], len(report["id"]), report["problems"]) == (1, 32, [])
    found = of(report, "S")
    state = {member: found["state"][member] for member in ("messages", "first_seq", "last_seq", "num_deleted")}
    assert state == {"messages": COUNT - 1, "first_seq": 1, "last_seq": COUNT, "num_deleted": 1}
    assert (found["account"], found["consumers"], found["problems"]) == ("$G", ["C"], [])
    assert hashlib.sha256((store / "natsc" / "data.mdb").read_bytes()).digest() == before


def test_what_people_read(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(store, MARK % 7)
    assert storetools.main("fsck", [str(store)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("$G > OTHER: 1 messages, ")
    assert lines[1].endswith(", sequences 1 to 1, 0 consumers: whole")
    assert lines[2].endswith(f"sequences 1 to {COUNT}, 1 consumers: 1 problem")
    assert lines[3:] == ["  message 8: checksum of the body", "2 streams, 1 of them damaged"]


@pytest.mark.parametrize(
    ("text", "offset", "problem"),
    [
        (MARK % 20, 5, "message 21: checksum of the body"),
        (b"A: b\r\n\r\n" + MARK % 20, 0, "message 21: checksum of the body"),
        (b"s.2NATS/1.0\r\nA: b\r\n\r\n" + MARK % 20, 1, "message 21: checksum of the head"),
        (b"s.2NATS/1.0\r\nA: b\r\n\r\n" + MARK % 20, -30, "message 21: checksum of the head"),
    ],
)
def test_a_flipped_bit(text: bytes, offset: int, problem: str, fsck: Tool, store: Path) -> None:
    flip(store, text, offset)
    code, report = fsck()
    assert code == 1
    assert of(report, "S")["problems"] == [problem]
    assert (of(report, "S")["damaged_messages"], of(report, "S")["state"]["messages"]) == (1, COUNT - 2)
    assert of(report, "OTHER")["problems"] == []


def test_a_page_of_nonsense(fsck: Tool, store: Path) -> None:
    """What is on it is lost, what is on others isn't."""
    path = store / "natsc" / "data.mdb"
    data = bytearray(path.read_bytes())
    page = data.index(MARK % 20) // 4096 * 4096
    data[page : page + 4096] = b"\xa5" * 4096
    path.write_bytes(data)
    code, report = fsck()
    found = of(report, "S")
    assert code == 1
    assert found["problems"]
    assert COUNT - 10 < found["state"]["messages"] < COUNT - 1
    assert of(report, "OTHER")["problems"] == []


def test_a_file_that_is_cut_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is still there is found; where the beginning of all is missing, there is nothing to be found."""
    kept = Store(str(tmp_path), sync_interval_ns=-1, map_size=1 << 28)
    stream = kept.open_stream("A", "S")
    for number in range(100):
        stream.append_bytes(b"s", MARK % number + b"x" * 3000, ts_ns=1)
        kept.wait_durable()
    kept.close()
    path = tmp_path / "natsc" / "data.mdb"
    data = path.read_bytes()
    place = sorted(data.index(MARK % number) // 4096 * 4096 for number in range(100))
    os.truncate(path, place[-3])
    code = storetools.main("fsck", [str(tmp_path)])
    said = capsys.readouterr()
    assert (code, "unreadable page" in said.out) == (1, True) or (code, "can't be read" in said.err) == (2, True)
    os.truncate(path, 12288)
    assert storetools.main("fsck", [str(tmp_path)]) == 2
    assert "can't be opened: a page of the data file can't be read" in capsys.readouterr().err


def test_a_file_of_nonsense(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (store / "natsc" / "data.mdb").write_bytes(b"\xa5" * 65536)
    assert storetools.main("fsck", [str(store)]) == 2
    assert "is damaged: it doesn't begin as LMDB's do" in capsys.readouterr().err


def test_a_store_of_another_format(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(store, meta(lambda txn, db: txn.put(b"format", b"\x63\0\0\0", db=db)))
    assert storetools.main("fsck", [str(store)]) == 2
    assert "has format 99, and this natsc knows 1" in capsys.readouterr().err


def test_keys_nobody_knows(fsck: Tool, store: Path) -> None:
    edit(store, meta(lambda txn, db: txn.put(b"strange", b"", db=db)))
    edit(store, lambda env, txn: env.open_db(b"stray", txn=txn))
    code, report = fsck()
    assert code == 1
    assert report["problems"] == ["nobody knows what b'strange' is", "the database 'stray' belongs to no stream"]


def test_a_record_of_a_stream_that_is_damaged(fsck: Tool, store: Path) -> None:
    def damage(txn: lmdb.Transaction, db: Any) -> None:
        value = bytearray(txn.get(b"s/%24G/S", db=db))
        value[9] ^= 1
        txn.put(b"s/%24G/S", bytes(value), db=db)

    edit(store, meta(damage))
    assert of(fsck()[1], "S")["problems"] == ["its own record is damaged"]


def test_a_configuration_that_is_gone(fsck: Tool, store: Path) -> None:
    edit(store, meta(lambda txn, db: txn.delete(b"u/stream/%24G/S", db=db)))
    assert of(fsck()[1], "S")["problems"] == ["it has no configuration"]


def test_a_configuration_that_is_no_json(fsck: Tool, store: Path) -> None:
    edit(store, meta(lambda txn, db: txn.put(b"u/stream/%24G/S", b"{", db=db)))
    [problem] = of(fsck()[1], "S")["problems"]
    assert problem.startswith("its configuration can't be read: ")


def test_messages_that_are_gone(fsck: Tool, store: Path) -> None:
    edit(store, lambda env, txn: txn.drop(env.open_db(b"m/%24G/S", txn=txn)))
    code, report = fsck()
    assert code == 1
    assert "its messages are missing" in of(report, "S")["problems"]


def test_a_stream_without_a_record(fsck: Tool, store: Path) -> None:
    edit(store, meta(lambda txn, db: txn.delete(b"s/%24G/S", db=db)))
    _, report = fsck()
    assert "%24G/S has a configuration, and no messages" in report["problems"]
    assert "the database 'm/%24G/S' belongs to no stream" in report["problems"]


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        (b"state/C\0s", "consumer C: its state is damaged"),
        (b"state/C\0p" + bytes(8), "consumer C: what it has of messages 0 to 63 is damaged"),
        (b"config/C", "consumer C: its configuration can't be read: "),
    ],
)
def test_a_consumer_that_is_damaged(key: bytes, problem: str, fsck: Tool, store: Path) -> None:
    def damage(env: lmdb.Environment, txn: lmdb.Transaction) -> None:
        db = env.open_db(b"c/%24G/S", txn=txn)
        value = bytearray(txn.get(key, db=db))
        value[0] ^= 8
        txn.put(key, bytes(value), db=db)

    edit(store, damage)
    code, report = fsck()
    assert code == 1
    assert of(report, "S")["problems"][0].startswith(problem)


@pytest.mark.parametrize(("key", "value"), [(b"source/x", with_checksum(b"{}")), (b"schedule/7", b"1")])
def test_what_else_is_kept(key: bytes, value: bytes, fsck: Tool, store: Path) -> None:
    edit(store, lambda env, txn: txn.put(key, value, db=env.open_db(b"c/%24G/S", txn=txn)))
    assert fsck()[0] == 0
    edit(store, lambda env, txn: txn.put(key, b"?", db=env.open_db(b"c/%24G/S", txn=txn)))
    assert of(fsck()[1], "S")["problems"] == [f"{key.decode()} is damaged"]


def test_the_file_of_another_store(fsck: Tool, store: Path) -> None:
    (store / "natsc" / "id").write_text("0" * 32 + "\n")
    code, report = fsck()
    assert code == 1
    assert report["problems"] == [f"its id is {report['id']}, and the file 'id' says {'0' * 32}"]


def test_a_checkpoint_that_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One that a start would use, and that doesn't say what the messages say."""
    kept = Store(str(tmp_path), sync_interval_ns=-1, map_size=1 << 28)
    stream = kept.open_stream("A", "S")
    for number in range(20_000):
        stream.append_bytes(b"s.%d" % (number % 5), b"x", ts_ns=1)
    kept.close()
    edit(
        tmp_path,
        meta(lambda txn, db: txn.put(b"u/stream/A/S", with_checksum(b'{"config":{"name":"S"},"created":1}'), db=db)),
    )
    assert storetools.main("fsck", [str(tmp_path)]) == 0
    key = (777).to_bytes(8, "big")
    edit(tmp_path, lambda env, txn: txn.delete(key, db=env.open_db(b"m/A/S", txn=txn)))
    assert storetools.main("fsck", [str(tmp_path)]) == 1
    assert "  checkpoint: message 777 is missing" in capsys.readouterr().out


def test_a_predecessor_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from natsc.jetstream.layout import pack_record

    kept = Store(str(tmp_path), sync_interval_ns=-1, map_size=1 << 28)
    stream = kept.open_stream("A", "S")
    for _ in range(5):
        stream.append_bytes(b"s", b"x", ts_ns=1)
    kept.close()
    wrong = pack_record(4, 1, b"s", b"", b"x", 2)
    edit(tmp_path, lambda env, txn: txn.put((4).to_bytes(8, "big"), wrong, db=env.open_db(b"m/A/S", txn=txn)))
    assert storetools.main("fsck", [str(tmp_path)]) == 1
    assert "message 4: it names 2 as the one before it on its subject, which is 3" in capsys.readouterr().out


# -- export -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=KINDS)
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(request.param, f'jetstream {{ store_dir: "{tmp_path_factory.mktemp("target")}" }}\n')
    yield running
    running.close()


def test_what_is_whole_is_restored(fsck: Tool, store: Path, tmp_path: Path, target: Server) -> None:
    flip(store, MARK % 20)
    code, report = fsck("--export", str(tmp_path / "saved"))
    assert code == 1
    where = Path(of(report, "S")["exported"])
    assert where == tmp_path / "saved" / "%24G" / "S"
    backup = json.loads((where / "backup.json").read_text())
    archive = (where / "stream.arc.s2").read_bytes()
    assert len(entries(archive)) == 2 + COUNT - 2
    with Client(target.port) as client:
        answer = restore(client, backup["config"], archive)
        assert answer["state"]["messages"] == COUNT - 2
        assert answer["state"]["last_seq"] == COUNT
        found = json.loads(client.request(f"{PREFIX}STREAM.MSG.GET.S", b'{"seq":20}').payload)["message"]
        assert found["subject"] == "s.1"
        info = json.loads(client.request(f"{PREFIX}CONSUMER.INFO.S.C").payload)
        assert (info["delivered"]["stream_seq"], info["ack_floor"]["stream_seq"], info["num_ack_pending"]) == (4, 1, 2)


def test_a_stream_without_a_configuration_is_exported_too(fsck: Tool, store: Path, tmp_path: Path) -> None:
    edit(store, meta(lambda txn, db: txn.delete(b"u/stream/%24G/S", db=db)))
    fsck("--export", str(tmp_path / "saved"))
    config = json.loads((tmp_path / "saved" / "%24G" / "S" / "backup.json").read_text())["config"]
    assert (config["name"], config["storage"]) == ("S", "file")


def test_nothing_is_overwritten(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "precious").touch()
    assert storetools.main("fsck", ["--export", str(tmp_path / "saved"), str(store)]) == 2
    assert "saved isn't empty" in capsys.readouterr().err
    assert os.listdir(tmp_path / "saved") == ["precious"]


def test_names_lead_nowhere_else() -> None:
    assert [_folder(name) for name in ("..", ".", "a/../b", "A.B")] == ["%2E%2E", "%2E", "a%2F..%2Fb", "A.B"]


# -- compact ----------------------------------------------------------------------------------------------------------


def test_a_purged_store_becomes_smaller(store: Path, fsck: Tool, capsys: pytest.CaptureFixture[str]) -> None:
    _, before = fsck()
    kept = Store(str(store), sync_interval_ns=-1, map_size=1 << 28)
    kept.open_stream("$G", "S").purge()
    kept.close()
    size = (store / "natsc" / "data.mdb").stat().st_size
    assert storetools.main("compact", [str(store)]) == 0
    smaller = (store / "natsc" / "data.mdb").stat().st_size
    assert smaller < size // 3
    assert capsys.readouterr().out.endswith(f"data.mdb: {size:,} bytes before, {smaller:,} after\n")
    code, report = fsck()
    assert code == 0
    assert of(report, "S")["state"]["first_seq"] == COUNT + 1
    assert of(report, "OTHER") == of(before, "OTHER")


def test_all_is_there_afterwards(store: Path, fsck: Tool, capsys: pytest.CaptureFixture[str]) -> None:
    before = fsck()
    (store / "natsc" / "compact").mkdir()
    (store / "natsc" / "compact" / "data.mdb").write_text("what a crash has left")
    (store / "natsc" / "data.mdb").chmod(0o640)
    assert storetools.main("compact", [str(store / "natsc")]) == 0
    capsys.readouterr()
    assert fsck() == before
    assert not (store / "natsc" / "compact").exists()
    assert (store / "natsc" / "data.mdb").stat().st_mode & 0o777 == 0o640
    kept = Store(str(store), map_size=1 << 28)
    assert kept.open_stream("$G", "S").get_bytes(8)[4].startswith(MARK % 7)
    kept.close()


def test_what_is_damaged_is_left_alone(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(store, MARK % 7)
    before = (store / "natsc" / "data.mdb").read_bytes()
    assert storetools.main("compact", [str(store)]) == 2
    assert "is damaged: see `natsc fsck`" in capsys.readouterr().err
    assert (store / "natsc" / "data.mdb").read_bytes() == before


@pytest.mark.parametrize("failing", ["rename", "fsync"])
def test_what_fails_changes_nothing(
    failing: str, store: Path, fsck: Tool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = fsck()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, fail)
        assert storetools.main("compact", [str(store)]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert fsck() == before
    assert not (store / "natsc" / "compact").exists()


# -- refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", storetools.TOOLS)
def test_a_store_in_use(tool: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = Store(str(tmp_path), sync_interval_ns=-1, map_size=1 << 28)
    try:
        assert storetools.main(tool, [str(tmp_path)]) == 2
    finally:
        kept.close()
    assert f"is in use by process {os.getpid()}" in capsys.readouterr().err


@pytest.mark.parametrize("tool", storetools.TOOLS)
def test_a_store_of_nats_server(tool: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "jetstream" / "$G" / "streams" / "ORDERS").mkdir(parents=True)
    assert storetools.main(tool, [str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "holds streams of nats-server ($G/ORDERS)" in said
    assert "nats account backup" in said


@pytest.mark.parametrize("tool", storetools.TOOLS)
def test_no_store(tool: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert storetools.main(tool, [str(tmp_path / "missing")]) == 2
    assert "there is no store of natsc in" in capsys.readouterr().err
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("args", [[], ["a", "b"], ["--what", "a"], ["--export"], ["--export=", "x"]])
def test_arguments_that_are_wrong(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert storetools.main("fsck", args) == 2
    assert "usage: natsc fsck" in capsys.readouterr().err


@pytest.mark.parametrize("tool", storetools.TOOLS)
def test_help(tool: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert storetools.main(tool, ["--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: natsc {tool}")


def test_they_are_commands_of_natsc(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from natsc.cli import main

    assert main(["fsck", str(store)]) == 0
    assert main(["compact", str(store)]) == 0
    assert capsys.readouterr().out.count("data.mdb") == 2
