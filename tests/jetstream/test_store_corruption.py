"""Bytes of the store's files that changed under it: what is whole stays readable, and nothing is taken for new.

What can be read wrongly is read in a process of its own: a fault would end the tests with it.
"""

import os
import random
import subprocess
import sys

import pytest

from natsc.jetstream.store import Store, StoreError

PAGE = 4096
RUNS = int(os.environ.get("NATSC_CORRUPTION_RUNS", "60"))
SEED = os.environ.get("NATSC_CORRUPTION_SEED", str(random.SystemRandom().randrange(10**9)))


def payload(seq):
    return b"payload-%05d" % seq * (800 if seq % 100 == 0 else 1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The data file of a store with three streams of 2,000 messages."""
    where = tmp_path_factory.mktemp("store")
    s = Store(str(where), sync_interval_ns=-1, map_size=16 << 20)
    for name in "STU":
        f = s.open_stream("A", name)
        for seq in range(1, 2001):
            f.append_bytes(b"a.%d" % (seq % 7), payload(seq))
            if seq % 500 == 0:
                s.wait_durable()
        for i in range(20):
            f.consumer_put_bytes(b"state/c%02d/s" % i, b"%d" % i * 60)
    s.close()
    return where / "natsc"


@pytest.fixture
def where(whole, tmp_path):
    """A copy of it that may be damaged."""
    os.mkdir(tmp_path / "natsc")
    for name in ("data.mdb", "id"):
        (tmp_path / "natsc" / name).write_bytes((whole / name).read_bytes())
    return tmp_path


def data_file(where):
    return where / "natsc" / "data.mdb"


def overwrite(where, at, data):
    with open(data_file(where), "r+b") as file:
        file.seek(at)
        file.write(data)


def open_store(where):
    return Store(str(where), sync_interval_ns=-1, map_size=16 << 20)


def use(where):
    """Open, read, write and remove. What came of it, in one word; AssertionError where something false was read."""
    try:
        s = open_store(where)
    except StoreError:
        return "refused"
    refused = 0
    for name in "STU":
        try:
            f = s.open_stream("A", name)
            f.consumer_items()
        except StoreError:
            refused += 1
            continue
        assert f.last_seq == 2000
        for seq in range(1, 2001):
            found = f.get_bytes(seq)
            assert found is None or found[4] == payload(seq), seq
        assert f.append_bytes(b"x", b"new") == 2001
        for seq in range(1, 2001, 13):
            f.remove_seq(seq)
    try:
        s.wait_durable()
        s.close()
    except StoreError:
        return "stopped"
    return f"{refused} refused"


def in_a_child(where):
    """use() in a fork of this process; what it says, or the signal that ended it."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            os.write(write, use(where).encode())
        except BaseException as error:
            os.write(write, repr(error).encode())
        os._exit(0)
    os.close(write)
    with open(read) as file:
        said = file.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return said if status == 0 else f"status {status}"


@pytest.mark.timeout(60 + RUNS)
def test_random_damage_is_never_read_as_data_and_never_ends_the_process(where):
    said = []
    whole = data_file(where).read_bytes()
    for run in range(RUNS):
        rng = random.Random(f"{SEED}/{run}")
        at = rng.randrange(len(whole))
        if rng.random() < 0.5:
            at -= at % PAGE - rng.randrange(200)  # where a page says what is in it
        n = rng.choice([1, 1, 8, 100, 600])
        overwrite(where, 0, whole)
        overwrite(where, at, bytes(rng.randrange(256) for _ in range(n)) if rng.random() < 0.7 else bytes(n))
        os.truncate(data_file(where), len(whole))
        said.append(in_a_child(where))
        assert said[-1].endswith("refused") or said[-1] == "stopped", f"seed {SEED} run {run}: {said[-1]}"
    assert said.count("0 refused") > RUNS // 2


@pytest.mark.parametrize("share", [0.9, 0.5, 0.1, 0])
def test_a_file_that_was_cut_off(where, share):
    size = int(os.path.getsize(data_file(where)) * share)
    os.truncate(data_file(where), max(size, 2 * PAGE))
    assert in_a_child(where).endswith("refused")


def test_a_file_cut_off_while_it_is_used(where):
    s = open_store(where)
    f = s.open_stream("A", "S")
    assert f.get_bytes(1)[4] == payload(1)
    s.end_turn()
    os.truncate(data_file(where), 4 * PAGE)
    assert f.get_bytes(1) is None
    assert f.lost == []  # whatever it is, it isn't this message
    s.end_turn()
    f.append_bytes(b"a", b"x")
    with pytest.raises(StoreError):
        s.wait_durable()
    assert s.failure.startswith("storage failed")


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("at", [10, 16, 40, 144, 145])
def test_a_meta_page_that_is_damaged(where, number, at):
    was = data_file(where).read_bytes()[number * PAGE + at]
    overwrite(where, number * PAGE + at, bytes([was ^ 0x41]))
    with pytest.raises(StoreError, match=r"page \d.* of the data file .* damaged"):
        Store(str(where))
    overwrite(where, number * PAGE + at, bytes([was]))
    assert in_a_child(where) == "0 refused"


def test_meta_pages_of_transactions_that_are_no_neighbours(where):
    overwrite(where, 144, (1 << 40).to_bytes(8, "little"))
    with pytest.raises(StoreError, match="they are of transactions 1099511627776 and"):
        Store(str(where))


@pytest.mark.parametrize("size", [None, 0])
def test_a_data_file_that_is_gone_is_not_begun_anew(where, size):
    if size is None:
        os.unlink(data_file(where))
    else:
        os.truncate(data_file(where), size)
    with pytest.raises(StoreError, match="is gone or empty"):
        open_store(where)
    assert size is not None or not data_file(where).exists()


@pytest.mark.parametrize("content", [b"", b"x", bytes(PAGE), bytes(5 * PAGE)])
def test_a_store_whose_making_was_interrupted_is_made_anew(tmp_path, content):
    os.mkdir(tmp_path / "natsc")
    data_file(tmp_path).write_bytes(content)
    s = open_store(tmp_path)
    assert s.stream_names() == []
    s.close()


def test_the_data_file_of_another_store(where, tmp_path):
    Store(str(tmp_path / "other")).close()
    os.replace(tmp_path / "other" / "natsc" / "data.mdb", data_file(where))
    with pytest.raises(StoreError, match="is that of another store"):
        open_store(where)


@pytest.mark.parametrize("content", [b"", b"nonsense" * 2000, bytes(8192)])
def test_the_lock_file_does_not_matter(where, content):
    (where / "natsc" / "lock.mdb").write_bytes(content)
    assert in_a_child(where) == "0 refused"


def test_a_fault_that_is_not_the_stores_ends_the_process_as_before(where):
    code = (
        "import ctypes, faulthandler, sys; from natsc.jetstream.store import Store; faulthandler.enable();"
        "s = Store(sys.argv[1], map_size=16 << 20); ctypes.string_at(8)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(where)], capture_output=True, text=True, timeout=50)
    assert done.returncode == -11
    assert "Segmentation fault" in done.stderr
    assert "natsc" not in done.stderr.splitlines()[0]


def test_a_stream_whose_record_is_gone_is_not_begun_anew(where):
    """Its databases are still there: a new stream would number its messages as the old one did."""
    data_file(where).write_bytes(data_file(where).read_bytes().replace(b"s/A/S", b"s/A/R"))
    s = open_store(where)
    with pytest.raises(StoreError, match="its own record is damaged"):
        s.open_stream("A", "S")
    assert s.open_stream("A", "T").msgs == 2000
    s.close()


# Quarantine.


def flip_everywhere(where, needle):
    data = bytearray(data_file(where).read_bytes())
    at = data.find(needle)
    assert at >= 0
    while at >= 0:
        data[at] ^= 4
        at = data.find(needle, at + 1)
    data_file(where).write_bytes(data)


def test_a_damaged_message_stays_in_quarantine(where):
    flip_everywhere(where, payload(7)[3:])
    s = open_store(where)
    told = []
    s.on_damage = lambda *what: told.append(what)
    f = s.open_stream("A", "S")
    assert f.msgs == 2000
    assert f.get_bytes(7) is None
    s.tell_damage()
    s.tell_damage()
    assert told == [("A", "S", [(7, "checksum of the body")])]
    s.close()
    s = open_store(where)
    s.on_damage = lambda *what: told.append(what)
    f = s.open_stream("A", "S")
    assert (f.msgs, f.lost) == (1999, [(7, "checksum of the body")])
    assert f.subjects_state()[b"a.0"] == (14, 1995, 284)
    s.tell_damage()
    assert told[1:] == told[:1]
    f.drop()
    s.wait_durable()
    f = s.open_stream("A", "S")
    assert f.lost == []
    s.close()


def test_a_message_that_is_whole_again_leaves_quarantine(where):
    was = data_file(where).read_bytes()
    flip_everywhere(where, payload(7)[3:])
    s = open_store(where)
    f = s.open_stream("A", "S")
    assert f.get_bytes(7) is None
    s.tell_damage()
    s.close()
    data = data_file(where).read_bytes()
    assert len(data) >= len(was)
    damaged = bytearray(payload(7)[3:])
    damaged[0] ^= 4
    data_file(where).write_bytes(data.replace(damaged, payload(7)[3:]))
    s = open_store(where)
    f = s.open_stream("A", "S")
    assert f.get_bytes(7)[4] == payload(7)
    assert f.lost == []
    s.close()
