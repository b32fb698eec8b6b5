"""File storage: against a dict, over reopening, and when things go wrong."""

import gc
import os
import subprocess
import sys
import tempfile

import pytest
from hypothesis import HealthCheck, given, settings

from natsc.jetstream.layout import pack_record
from natsc.jetstream.store import ForeignStoreError, Store, StoreError

from .storemodel import Model, apply, compare, operations


@pytest.fixture
def where(tmp_path):
    return str(tmp_path)


@pytest.fixture
def store(where):
    s = Store(where, sync_interval_ns=-1, map_size=1 << 28)
    yield s
    s.close()


def reopen(s):
    """Close and open again. The new store and its stream."""
    s.close()
    s = Store(os.path.dirname(s.directory), sync_interval_ns=-1, map_size=1 << 28)
    return s, s.open_stream("A", "S")


def fill(f, n, subject=b"a", size=10):
    for _ in range(n):
        f.append_bytes(subject, b"x" * size, ts_ns=f.last_seq + 1)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(operations)
def test_like_a_dict(ops):
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as where:
        s = Store(where, sync_interval_ns=-1, map_size=1 << 28, hot_bytes=0)
        f, model = s.open_stream("A", "S"), Model(is_file=True)
        for clock, op in enumerate(ops, 1):
            if op[0] == "commit":
                s.wait_durable()
            elif op[0] == "reopen":
                s, f = reopen(s)
            else:
                apply(f, model, op, clock)
            assert f.state_dict() == model.state_dict()
        compare(f, model)
        s.end_turn()
        s.wait_durable()
        compare(f, model)
        s, f = reopen(s)
        compare(f, model)
        s.close()


# Reading


def test_messages_are_read_from_disk_once_they_are_not_hot(where):
    s = Store(where, sync_interval_ns=-1, hot_bytes=1 << 18)
    f = s.open_stream("A", "S")
    for i in range(2000):
        f.append_bytes(b"a.%d" % i, b"%d" % i * 300, b"h%d" % i, i)
        if i % 100 == 0:
            s.end_turn()
    s.wait_durable()
    for seq in (1, 2, 3, 700, 699, 5, 2000, 1999):
        i = seq - 1
        assert f.get_bytes(seq) == (seq, i, b"a.%d" % i, b"h%d" % i, b"%d" % i * 300)
    s.close()


def test_a_message_larger_than_a_unit_of_the_arena(store):
    f = store.open_stream("A", "S")
    big = os.urandom(3 << 20)
    f.append_bytes(b"a", b"before")
    f.append_bytes(b"a", big)
    f.append_bytes(b"a", b"behind")
    assert f.get_bytes(2)[4] == big
    store.wait_durable()
    fill(f, 1000, size=20000)
    store.wait_durable()
    assert f.get_bytes(2)[4] == big
    assert f.get_bytes(3)[4] == b"behind"


def test_many_streams_share_a_transaction(store):
    streams = [store.open_stream("A", f"S{i}") for i in range(50)]
    before = store.commits
    for f in streams:
        fill(f, 3)
    store.wait_durable()
    assert store.commits - before <= 2
    assert all(f.get_bytes(2)[2] == b"a" for f in streams)
    assert len(store.stream_names()) == 50


def test_many_turns_in_a_row_need_no_answer_between(store):
    f = store.open_stream("A", "S")
    for _ in range(5000):
        fill(f, 3)
        store.end_turn()
    store.wait_durable()
    assert store.pending_bytes == 0
    assert f.get_bytes(1)[0] == 1
    assert f.get_bytes(15000)[0] == 15000


# Life of a store


def test_the_callback_names_durable_batches(store):
    seen = []
    store.on_durable = seen.append
    f = store.open_stream("A", "S")
    fill(f, 1)
    first = store.end_turn()
    fill(f, 1)
    second = store.wait_durable()
    assert second > first > 0
    assert seen[-1] == second
    assert seen == sorted(set(seen))


def test_a_clean_stop_drains(where):
    s = Store(where)
    f = s.open_stream("A", "S")
    fill(f, 5000)
    s.close()
    s = Store(where)
    assert s.open_stream("A", "S").msgs == 5000
    s.close()


def test_a_store_dropped_without_close_drains_too(where):
    s = Store(where)
    fill(s.open_stream("A", "S"), 10)
    s.end_turn()
    del s
    gc.collect()
    s = Store(where)
    assert s.open_stream("A", "S").msgs == 10
    s.close()


def test_the_store_id_stays(where):
    s = Store(where)
    store_id = s.store_id
    s.close()
    s = Store(where)
    assert s.store_id == store_id
    assert len(store_id) == 32
    s.close()


def test_sync_interval(where):
    s = Store(where, sync_interval_ns=1000000)
    f = s.open_stream("A", "S")
    for _ in range(20):
        fill(f, 10)
        s.wait_durable()
    s.close()
    s = Store(where)
    assert s.open_stream("A", "S").msgs == 200
    s.close()


def test_a_closed_store_takes_nothing(where):
    s = Store(where)
    f = s.open_stream("A", "S")
    fill(f, 1)
    s.close()
    with pytest.raises(OSError, match="closed"):
        fill(f, 1)
    assert f.get_bytes(1) is None
    with pytest.raises(StoreError, match="closed"):
        s.open_stream("A", "T")
    s.close()


def test_two_stores_in_one_process(tmp_path):
    stores = [Store(str(tmp_path / str(i)), sync_interval_ns=-1) for i in range(2)]
    streams = [s.open_stream("A", "S") for s in stores]
    fill(streams[0], 3)
    fill(streams[1], 5)
    for s in stores:
        s.wait_durable()
    assert [f.msgs for f in streams] == [3, 5]
    for s in stores:
        s.close()


# Streams


def test_a_dropped_stream_is_gone(store):
    f, other = store.open_stream("A", "S"), store.open_stream("A", "T")
    fill(f, 100)
    fill(other, 7)
    store.wait_durable()
    f.drop()
    store.wait_durable()
    assert store.stream_names() == [("A", "T")]
    with pytest.raises(OSError, match="closed"):
        fill(f, 1)
    again = store.open_stream("A", "S")
    assert again.state_dict()["last_seq"] == 0
    fill(again, 2)
    store.wait_durable()
    assert again.get_bytes(1)[0] == 1
    assert other.get_bytes(7)[0] == 7


def test_dropped_and_made_again_in_one_batch(store):
    f = store.open_stream("A", "S")
    fill(f, 100)
    f.consumer_put_bytes(b"c", b"state")
    f.drop()
    f = store.open_stream("A", "S")
    fill(f, 2)
    f.drop()
    f = store.open_stream("A", "S")
    fill(f, 3)
    store.wait_durable()
    s, f = reopen(store)
    assert f.msgs == f.last_seq == 3
    assert f.consumer_items() == []
    s.close()


def test_made_again_while_the_drop_of_what_is_on_disk_waits(store):
    f = store.open_stream("A", "S")
    fill(f, 5)
    f.consumer_put_bytes(b"c", b"state")
    store.wait_durable()
    f.drop()
    f = store.open_stream("A", "S")
    assert (f.last_seq, f.msgs, f.consumer_items()) == (0, 0, [])
    fill(f, 2)
    store.wait_durable()
    s, f = reopen(store)
    assert f.msgs == f.last_seq == 2
    assert f.consumer_items() == []
    s.close()


def test_consumers_of_a_stream_that_is_being_made_have_nothing(store):
    f = store.open_stream("A", "S")
    f.consumer_put_bytes(b"c", b"state")
    assert f.consumer_items() == []
    store.wait_durable()
    assert f.consumer_items() == [(b"c", b"state")]


def test_names_that_need_encoding(where):
    s = Store(where)
    for name in ("Ü/ü", "x" * 255, "x" * 254 + "y", "%2F"):
        fill(s.open_stream("$G " + name, name), len(name))
    s.close()
    s = Store(where)
    for name in ("Ü/ü", "x" * 255, "x" * 254 + "y", "%2F"):
        assert ("$G " + name, name) in s.stream_names()
        assert s.open_stream("$G " + name, name).msgs == len(name)
    s.close()


def test_a_stream_is_open_once(store):
    store.open_stream("A", "S")
    with pytest.raises(StoreError, match="open already"):
        store.open_stream("A", "S")


def test_an_empty_streams_sequence_survives(store):
    f = store.open_stream("A", "S")
    fill(f, 5)
    store.wait_durable()
    for seq in range(1, 6):
        f.remove_seq(seq)
    s, f = reopen(store)
    assert f.state_dict() == {
        "msgs": 0,
        "bytes": 0,
        "first_seq": 6,
        "last_seq": 5,
        "first_ts_ns": 0,
        "last_ts_ns": 5,
        "num_deleted": 0,
        "num_subjects": 0,
    }
    f.purge(seq=100)
    s, f = reopen(s)
    assert (f.first_seq, f.last_seq) == (100, 99)
    assert f.append_bytes(b"a", b"") == 100
    s.close()


def test_bytes_are_accounted_as_in_nats_server(store):
    f = store.open_stream("A", "S")
    f.append_bytes(b"abc", b"12345")
    assert f.bytes == 30 + 3 + 5
    f.append_bytes(b"abc", b"12345", b"NATS/1.0\r\n\r\n")
    assert f.bytes == 38 + 42 + 12


# Consumers and meta


def test_what_consumers_keep(store):
    f, other = store.open_stream("A", "S"), store.open_stream("A", "T")
    for key in (b"c1/floor", b"c1/5", b"c2/floor", b"c10"):
        f.consumer_put_bytes(key, b"old")
        f.consumer_put_bytes(key, b"value of " + key)
    other.consumer_put_bytes(b"c1/floor", b"other")
    f.consumer_delete_bytes(b"c1/5")
    f.consumer_delete_bytes(b"never there")
    store.wait_durable()
    assert f.consumer_items(b"c1/") == [(b"c1/floor", b"value of c1/floor")]
    assert f.consumer_items() == [(k, b"value of " + k) for k in (b"c1/floor", b"c10", b"c2/floor")]
    f.consumer_delete_prefix_bytes(b"c1/")
    s, f = reopen(store)
    assert [k for k, _ in f.consumer_items()] == [b"c10", b"c2/floor"]
    s.close()


def test_meta(store):
    store.meta_put(b"stream/A/S", b"{}")
    store.meta_put(b"stream/A/T", b"{1}")
    store.meta_put(b"other", b"")
    store.meta_delete(b"stream/A/S")
    s, _ = reopen(store)
    assert s.meta_items(b"stream/") == [(b"stream/A/T", b"{1}")]
    assert s.meta_items() == [(b"other", b""), (b"stream/A/T", b"{1}")]
    with pytest.raises(ValueError, match="too long"):
        s.meta_put(b"x" * 500, b"")
    s.close()


# Checkpoints


def spoil_messages(s):
    """Overwrite the first message's record, so that a scan would complain about it."""
    with open(os.path.join(s.directory, "data.mdb"), "r+b") as file:
        data = file.read()
        at = data.index(pack_record(1, 1, b"a.1", b"", b"first"))
        file.seek(at + 46)
        file.write(b"?")


@pytest.mark.parametrize("removed", [False, True])
def test_a_checkpoint_saves_the_scan(where, removed):
    s = Store(where, sync_interval_ns=-1)
    f = s.open_stream("A", "S")
    f.append_bytes(b"a.1", b"first", ts_ns=1)
    for i in range(12000):
        f.append_bytes(b"a.%d" % (i % 100), b"")
    f.remove_seq(5000)
    f.purge(b"a.7", keep=3)
    before, subjects = f.state_dict(), f.subjects_state()
    s.close()
    spoil_messages(s)
    s, f = reopen(s)
    assert f.lost == []  # it did not look
    assert f.subjects_state() == subjects
    before["first_ts_ns"] = 1
    after = f.state_dict()  # now it looked
    assert f.lost == [(1, "checksum of the head")]
    assert after["msgs"] == before["msgs"] - 1
    if removed:
        f.remove_seq(2)
    f.append_bytes(b"new", b"")
    s.wait_durable()
    s.end_turn()
    del f
    s.close()
    s, f = reopen(s)
    assert f.msgs == before["msgs"] - removed
    assert f.subjects_state()[b"new"] == (12002, 12002, 1)
    s.close()


def test_a_checkpoint_is_worth_nothing_after_a_removal(where):
    s = Store(where, sync_interval_ns=-1)
    f = s.open_stream("A", "S")
    for i in range(12000):
        f.append_bytes(b"a.%d" % (i % 100), b"")
    s.close()
    env = {**os.environ, "WHERE": where}
    code = """
import os
from natsc.jetstream.store import Store
s = Store(os.environ["WHERE"])
f = s.open_stream("A", "S")
f.remove_seq(7)
f.append_bytes(b"a.x", b"")
s.wait_durable()
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code], env=env, timeout=50).returncode == 9
    s = Store(where, sync_interval_ns=-1)
    f = s.open_stream("A", "S")
    assert f.msgs == 12000
    assert f.get_bytes(7) is None
    assert f.subjects_state(b"a.6") == {b"a.6": (107, 11907, 119)}
    s.close()


# Damage


def damage(s, needle, offset=0):
    """Close the store and flip a bit somewhere behind needle, in every copy of it."""
    s.close()
    path = os.path.join(s.directory, "data.mdb")
    with open(path, "r+b") as file:
        data = bytearray(file.read())
        at = data.find(needle)
        assert at >= 0
        while at >= 0:
            data[at + offset] ^= 4
            at = data.find(needle, at + 1)
        file.seek(0)
        file.write(data)
    return Store(os.path.dirname(s.directory), sync_interval_ns=-1)


def test_a_flipped_bit_in_a_payload_costs_one_message(store):
    f, other = store.open_stream("A", "S"), store.open_stream("A", "T")
    for i in range(100):
        f.append_bytes(b"a", b"payload-%03d" % i)
        other.append_bytes(b"a", b"other-%03d" % i)
    s = damage(store, b"payload-041")
    f, other = s.open_stream("A", "S"), s.open_stream("A", "T")
    assert f.msgs == 100
    assert f.get_bytes(42) is None
    assert f.lost == [(42, "checksum of the body")]
    assert f.next_bytes(42)[0][0] == 43
    assert f.state_dict()["msgs"] == f.subjects_state()[b"a"][2] == 99
    assert f.bytes == 99 * (30 + 1 + 11)
    assert f.append_bytes(b"a", b"") == 101
    assert [other.get_bytes(seq)[0] for seq in range(1, 101)] == list(range(1, 101))
    assert other.lost == []
    s.close()


def test_a_flipped_bit_in_a_subject_is_found_at_open(store):
    f = store.open_stream("A", "S")
    for i in range(100):
        f.append_bytes(b"subject-%03d" % i, b"")
    s = damage(store, b"subject-099", 3)
    f = s.open_stream("A", "S")
    assert f.lost == [(100, "checksum of the head")]
    assert (f.msgs, f.last_seq) == (99, 100)
    assert f.append_bytes(b"a", b"") == 101
    s, f = reopen(s)
    assert f.lost == [(100, "checksum of the head")]  # nothing was deleted
    assert f.msgs == 100
    s.close()


READ_ALL = """
import sys
from natsc.jetstream.store import Store
s = Store(sys.argv[1], sync_interval_ns=-1)
f, other = s.open_stream("A", "S"), s.open_stream("A", "T")
whole = [seq for seq in range(1, 3001) if f.get_bytes(seq)]
assert len(whole) == f.msgs == f.state_dict()["msgs"]
lost = [seq for seq, why in f.lost]
assert sorted(whole + lost) == list(range(1, 3001)), lost
assert 1500 in lost, lost
assert all(other.get_bytes(seq) for seq in range(1, 101))
assert f.append_bytes(b"a", b"") == 3001
assert other.append_bytes(b"a", b"") == 101
s.wait_durable()
s.close()
print(len(lost))
"""


def test_a_zeroed_page_costs_what_was_on_it(store, where):
    f, other = store.open_stream("A", "S"), store.open_stream("A", "T")
    for i in range(1, 3001):
        f.append_bytes(b"a.%d" % (i % 7), b"payload-%04d" % i)
    fill(other, 100)
    store.close()
    path = os.path.join(store.directory, "data.mdb")
    with open(path, "r+b") as file:
        at = file.read().index(b"payload-1500") & ~4095
        file.seek(at)
        file.write(bytes(4096))
    done = subprocess.run([sys.executable, "-c", READ_ALL, where], capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    assert 20 < int(done.stdout) < 60


def test_a_stream_whose_end_is_zeroed_is_refused_rather_than_numbered_anew(store):
    f, other = store.open_stream("A", "S"), store.open_stream("A", "T")
    for i in range(1, 3001):
        f.append_bytes(b"a", b"payload-%04d" % i)
    fill(other, 100)
    store.close()
    path = os.path.join(store.directory, "data.mdb")
    with open(path, "r+b") as file:
        at = file.read().index(b"payload-3000") & ~4095
        file.seek(at)
        file.write(bytes(4096))
    s = Store(os.path.dirname(store.directory), sync_interval_ns=-1)
    with pytest.raises(StoreError, match="can't be read"):
        s.open_stream("A", "S")
    assert s.open_stream("A", "T").msgs == 100
    s.close()


def test_damage_does_not_stop_a_purge(store):
    f = store.open_stream("A", "S")
    for i in range(100):
        f.append_bytes(b"a.%d" % (i % 2), b"payload-%03d" % i)
    s = damage(store, b"payload-041")
    f = s.open_stream("A", "S")
    assert f.purge(b"a.1", budget=3) == 49
    assert f.purge(seq=61, budget=3) == 30
    assert f.state_dict()["msgs"] == 20
    s.close()


def test_a_stream_whose_own_record_is_damaged_is_not_opened_and_not_deleted(store):
    store.open_stream("A", "the-stream")
    fill(store.open_stream("A", "T"), 3)
    s = damage(store, b"A\0the-stream", 3)
    with pytest.raises(StoreError, match=r"the-stream.*its own record is damaged"):
        s.open_stream("A", "the-stream")
    assert s.open_stream("A", "T").msgs == 3
    assert len(s.stream_names()) == 2
    s.close()


def test_a_store_of_another_format_is_refused(store):
    store.close()
    path = os.path.join(store.directory, "data.mdb")
    with open(path, "r+b") as file:
        data = file.read().replace(b"format\x01\0\0\0", b"format\x63\0\0\0")
        file.seek(0)
        file.write(data)
    with pytest.raises(StoreError, match="format 99, and this natsc knows 1"):
        Store(os.path.dirname(store.directory))


# Others' directories


def test_a_second_process_is_refused(store, where):
    code = "import sys; from natsc.jetstream.store import Store; Store(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, where], capture_output=True, text=True, timeout=50)
    assert f"in use by process {os.getpid()}" in done.stderr


def test_a_second_store_in_this_process_is_refused(store, where):
    with pytest.raises(StoreError, match=f"in use by process {os.getpid()}"):
        Store(where)


def test_a_directory_that_nats_server_wrote_is_refused(tmp_path):
    os.makedirs(tmp_path / "jetstream" / "$G" / "streams" / "ORDERS")
    with pytest.raises(ForeignStoreError, match=r"\$G/ORDERS.*backup.*restore"):
        Store(str(tmp_path))
    assert not (tmp_path / "natsc").exists()


def test_an_empty_directory_of_nats_server_is_no_obstacle(tmp_path):
    os.makedirs(tmp_path / "jetstream" / "$G" / "streams" / ".DELETED")
    Store(str(tmp_path)).close()


def test_a_forked_child_can_do_nothing(store):
    f = store.open_stream("A", "S")
    fill(f, 10)
    store.wait_durable()
    pid = os.fork()
    if pid == 0:
        bad = 0
        try:
            fill(f, 1)
            bad = 1
        except OSError:
            pass
        store.close()
        os._exit(bad)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    fill(f, 1)
    store.wait_durable()
    assert f.msgs == 11


# Room


def test_the_map_grows(where):
    s = Store(where, sync_interval_ns=-1, map_size=1 << 20)
    f = s.open_stream("A", "S")
    before = s.map_size
    for i in range(300):
        f.append_bytes(b"a", b"%d" % i * 10000)
        f.get_bytes(1)
        if i % 10 == 0:
            s.wait_durable()
    s.wait_durable()
    assert s.map_size >= 4 * before
    assert f.get_bytes(1)[4] == b"0" * 10000
    assert f.get_bytes(300)[4] == b"299" * 10000
    s.close()


LIMITED = """
import os, resource, sys
from natsc.jetstream.store import Store, StoreError
where, limit = sys.argv[1], sys.argv[2]
s = Store(where, map_size=1 << 30)
f = s.open_stream("A", "S")
acked = 0
failures = []
s.on_failure = failures.append
if limit == "file":
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 20, 2 << 20))
else:
    size = int(open("/proc/self/statm").read().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (size + (64 << 20), size + (64 << 20)))
try:
    for i in range(2000):
        f.append_bytes(b"a", os.urandom(4000))
        acked_to = f.last_seq
        s.wait_durable()
        acked = acked_to
except StoreError as e:
    print("failed", e)
for _ in range(3):
    try:
        f.append_bytes(b"a", b"small")
        s.wait_durable()
        print("acknowledged after the failure")
    except OSError as e:
        print("refused", e)
assert failures == [s.failure], failures
assert f.get_bytes(1)[0] == 1
try:
    s.close()
    print("closed as if nothing was")
except StoreError as e:
    print("close:", e)
print("acked", acked)
"""


def test_a_full_disk_fails_the_store_and_nothing_is_acknowledged_falsely(where):
    done = subprocess.run([sys.executable, "-c", LIMITED, where, "file"], capture_output=True, text=True, timeout=50)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("failed storage failed"), lines
    assert lines[1:4] == ["refused the store has failed"] * 3
    assert lines[4].startswith("close: storage failed")
    acked = int(lines[5].split()[1])
    assert acked > 50
    s = Store(where)
    f = s.open_stream("A", "S")
    assert acked <= f.last_seq <= acked + 1
    assert f.msgs == f.last_seq
    assert all(f.get_bytes(seq) for seq in range(1, acked + 1))
    assert f.append_bytes(b"a", b"room again") == f.last_seq
    s.wait_durable()
    s.close()


@pytest.mark.parametrize("late", [False, True], ids=["hot", "cold"])
def test_a_purge_of_all_but_the_last_message(store, late):
    f = store.open_stream("A", "S")
    fill(f, 20, b"a")
    f.append_bytes(b"b", b"the last", b"NATS/1.0\r\n\r\n", 77)
    if late:
        store, f = reopen(store)
    assert f.purge(seq=21) == 20
    assert f.append_bytes(b"b", b"next", b"", 78) == 22
    for _ in range(2):
        assert f.get_bytes(21) == (21, 77, b"b", b"NATS/1.0\r\n\r\n", b"the last")
        assert f.subjects_state() == {b"b": (21, 22, 2)}
        assert (f.msgs, f.first_seq, f.last_seq, f.next_bytes(1)[1]) == (2, 21, 22, 22)
        store, f = reopen(store)
    store.close()
