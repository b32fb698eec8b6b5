"""The subject tree and the cache of matches, against an oracle that looks at every subscription."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from natsc.engine.permissions import Permissions
from natsc.testing.oracle import is_valid_subscription, matches
from natsc.testing.world import Peer, World

# Few tokens, so that subjects meet; odd ones, so that wildcards inside tokens are seen.
TOKENS = st.sampled_from([b"a", b"b", b"c", b"foo", b"longer-than-one-word", b"*", b">", b"a*", b">>", b"\xff"])
SUBJECTS = st.lists(TOKENS, min_size=1, max_size=5).map(b".".join)
ODD = st.one_of(SUBJECTS, st.sampled_from([b".", b"..", b"a.", b".a", b"a..b"]))
QUEUES = st.sampled_from([None, None, b"q", b"r", b"longer-queue"])


class Subscriptions(RuleBasedStateMachine):
    """SUB and UNSUB of two clients in one account, published to by a third; what arrives is what the oracle says."""

    sids = Bundle("sids")

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.subscribers = [self.world.connect(), self.world.connect()]
        self.publisher = self.world.connect()
        self.there: dict[tuple[int, bytes], tuple[bytes, bytes | None]] = {}
        self.count = 0

    @rule(target=sids, who=st.sampled_from([0, 1]), subject=ODD, queue=QUEUES)
    def subscribe(self, who: int, subject: bytes, queue: bytes | None) -> tuple[int, bytes]:
        self.count += 1
        sid = b"%d" % self.count
        answer = self.subscribers[who].say(b"SUB %s %s%s\r\n" % (subject, queue + b" " if queue else b"", sid))
        if is_valid_subscription(subject):
            self.there[who, sid] = (subject, queue)
            assert answer == b""
        else:
            assert answer == b"-ERR 'Invalid Subject'\r\n"
        return who, sid

    @rule(which=consumes(sids))
    def unsubscribe(self, which: tuple[int, bytes]) -> None:
        who, sid = which
        self.subscribers[who].say(b"UNSUB %s\r\n" % sid)
        self.there.pop(which, None)

    @rule(subject=ODD)
    def publish(self, subject: bytes) -> None:
        self.publisher.say(b"PUB %s 0\r\n\r\n" % subject)
        got = [
            (who, line.split(b" ")) for who in (0, 1) for line in self.subscribers[who].take().split(b"\r\n") if line
        ]
        assert all(parts[1] == subject for _, parts in got)
        received = [(who, parts[2]) for who, parts in got]
        found = {key: queue for key, (pattern, queue) in self.there.items() if matches(subject, pattern)}
        plain = [key for key, queue in found.items() if queue is None]
        groups = {queue for queue in found.values() if queue is not None}
        assert sorted(key for key in received if found.get(key, "?") is None) == sorted(plain)
        assert sorted(found[key] for key in received if found[key] is not None) == sorted(groups)

    @rule(subject=SUBJECTS)
    def match(self, subject: bytes) -> None:
        """What monitoring is told, of the tree itself."""
        got = self.world.engine.match(self.world.account(), subject)
        found = [
            (self.subscribers[who].client.cid, pattern, queue, sid)
            for (who, sid), (pattern, queue) in self.there.items() if matches(subject, pattern)
        ]  # fmt: skip
        assert sorted(got, key=str) == sorted(found, key=str)

    @invariant()
    def subjects_are_read_back(self) -> None:
        for who, subscriber in enumerate(self.subscribers):
            told = {s[2]: (s[0], s[1]) for s in subscriber.client.subscriptions()}
            assert told == {sid: value for (w, sid), value in self.there.items() if w == who}
        assert self.world.account().num_subs == self.world.engine.num_subs == len(self.there)

    def teardown(self) -> None:
        for who, sid in list(self.there):
            self.subscribers[who].say(b"UNSUB %s\r\n" % sid)
        stats = self.world.account().sublist_stats()
        assert (stats["num_subscriptions"], self.world.account().num_nodes) == (0, 0)
        assert stats["num_inserts"] == stats["num_removes"]


Subscriptions.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestSubscriptions = Subscriptions.TestCase


@given(st.lists(st.tuples(SUBJECTS.filter(is_valid_subscription), QUEUES), max_size=60), st.data())
def test_closing_takes_everything_out(subscriptions, data):
    world = World()
    peers = [world.connect() for _ in range(3)]
    for sid, (subject, queue) in enumerate(subscriptions):
        peers[sid % 3].say(b"SUB %s %s%d\r\n" % (subject, queue + b" " if queue else b"", sid))
    for peer in data.draw(st.permutations(peers)):
        before = world.account().num_subs
        mine = peer.client.num_subs
        peer.client.close(1)
        world.end_turn()
        assert world.account().num_subs == before - mine
        assert len(peer.client.subscriptions()) == mine  # what it had stays readable
    assert world.account().num_nodes == 0


@pytest.mark.parametrize("seed", range(5))
def test_many_children_come_and_go(seed):
    """Tables of children and of sids grow, and removal closes the gaps in them."""
    world = World(seed=seed)
    peer, sender = world.connect(), world.connect()
    count = 500
    peer.say(b"".join(b"SUB t.%d s%d\r\n" % (i, i) for i in range(count)))
    gone = {i for i in range(count) if (i * 7919 + seed) % 3}
    peer.say(b"".join(b"UNSUB s%d\r\n" % i for i in gone))
    for i in range(count):
        sender.say(b"PUB t.%d 0\r\n\r\n" % i)
        assert peer.take() == (b"" if i in gone else b"MSG t.%d s%d 0\r\n\r\n" % (i, i))
    assert world.account().num_nodes == count - len(gone) + 1


def test_subjects_as_deep_as_a_line_allows():
    world = World(max_control_line=20000)
    peer, sender = world.connect(), world.connect()
    deep = b".".join([b"a"] * 4096)
    peer.say(b"SUB %s 1\r\nSUB %s.> 2\r\n" % (b".".join([b"*"] * 4096), b".".join([b"*"] * 4000)))
    sender.say(b"PUB %s 0\r\n\r\n" % deep)
    assert peer.take().count(b"MSG ") == 2
    assert peer.client.subscriptions()[0][0].count(b".") in (4095, 4000)
    sender.say(b"PUB %s.a 0\r\n\r\n" % deep)
    assert peer.take().count(b"MSG ") == 0  # beyond what the engine looks at
    peer.client.close(1)
    world.end_turn()
    assert world.account().num_nodes == 0


class TestCache:
    """A match is kept from its second use on, until a subscription under its first token comes or goes."""

    def hits(self, world: World) -> int:
        return world.account().sublist_stats()["num_cache_hits"]

    def publish(self, sender: Peer, subject: bytes) -> None:
        """From two clients in turn: one that publishes to the same subject again asks no cache."""
        sender.say(b"PUB %s 0\r\n\r\nPUB elsewhere 0\r\n\r\n" % subject)

    @pytest.fixture
    def sender(self, world) -> Peer:
        sender = world.connect()
        for _ in range(2):
            self.publish(sender, b"foo.a")
        return sender

    def test_a_subject_used_once_is_not_kept(self, world):
        sender = world.connect()
        sender.say(b"PUB foo 0\r\n\r\nPUB bar 0\r\n\r\n")
        assert world.engine.cached_matches == 0
        sender.say(b"PUB foo 0\r\n\r\n")
        assert world.engine.cached_matches == 1

    @pytest.mark.parametrize(
        ("subscribed", "hits"),
        [(b"bar", 2), (b"bar.>", 2), (b"foo.a", 1), (b"foo.*", 1), (b"foo", 1), (b"*.x", 0), (b">", 0), (b"*", 0)],
    )
    def test_what_a_subscription_leaves_valid(self, world, sender, subscribed, hits):
        before = self.hits(world)
        sender.say(b"SUB %s 1\r\n" % subscribed)
        self.publish(sender, b"foo.a")
        assert self.hits(world) - before == hits
        before = self.hits(world)
        sender.say(b"UNSUB 1\r\n")
        self.publish(sender, b"foo.a")
        assert self.hits(world) - before == hits

    def test_the_same_subject_again_and_again(self, world):
        peer, sender = world.connect(), world.connect()
        for _ in range(3):
            peer.say(b"SUB foo 1\r\n")
            sender.say(b"PUB foo 0\r\n\r\n" * 3)
            assert peer.take() == b"MSG foo 1 0\r\n\r\n" * 3
            peer.say(b"UNSUB 1\r\n")
            sender.say(b"PUB foo 0\r\n\r\n")
            assert peer.take() == b""

    def test_a_subject_in_two_accounts(self, world):
        peers = {name: world.connect(account=name) for name in ("A", "B")}
        for name, peer in peers.items():
            peer.say(b"SUB foo %s\r\n" % name.encode())
        for name, peer in peers.items():
            for _ in range(3):
                assert peer.say(b"PUB foo 0\r\n\r\n") == b"MSG foo %s 0\r\n\r\n" % name.encode()

    def test_more_subjects_than_slots(self, world):
        peer, sender = world.connect(), world.connect()
        peer.say(b"SUB > 1\r\n")
        for _ in range(2):
            for first in range(0, 20000, 1000):
                numbers = range(first, first + 1000)
                sender.say(b"".join(b"PUB s.%d 0\r\n\r\n" % n for n in numbers))
                assert peer.take() == b"".join(b"MSG s.%d 1 0\r\n\r\n" % n for n in numbers)
        assert world.engine.cached_matches <= 8192

    def test_receivers_in_the_cache_are_bounded(self, world):
        peers = [world.connect() for _ in range(10)]
        for peer in peers:
            peer.say(b"".join(b"SUB > %d\r\n" % i for i in range(1000)))
        for n in range(40):
            peers[0].say(b"PUB s.%d 0\r\n\r\n" % n)
            assert world.engine.cached_matches * 10000 <= (1 << 18) + 10000
        assert peers[9].take().count(b"MSG ") == 40000


# Acknowledgements have a cache of their own. Patterns and subjects that meet often, whole or in part.
NUMBERS = [b"1", b"2", b"3", b""]
ACKS = st.builds(
    lambda stream, consumer, rest: b".".join([b"$JS.ACK", stream, consumer, *rest]),
    st.sampled_from([b"S", b"T", b"*"]),
    st.sampled_from([b"C", b"D"]),
    st.lists(st.sampled_from(NUMBERS), max_size=4),
)
ACK_PATTERNS = st.builds(
    lambda first, stream, consumer, rest: b".".join([first, stream, consumer, *rest]),
    st.sampled_from([b"$JS.ACK", b"$JS.ACK", b"$JS.ACK", b"*.ACK", b"$JS.*"]),
    st.sampled_from([b"S", b"S", b"T", b"*"]),
    st.sampled_from([b"C", b"C", b"D", b"*", b">"]),
    st.lists(st.sampled_from([b"*", b"*", b"*", b"1", b">"]), max_size=4),
).filter(is_valid_subscription)


class TestAcknowledgements:
    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("sub"), ACK_PATTERNS, st.booleans()),
                st.tuples(st.just("unsub"), st.integers(0, 20), st.none()),
                st.tuples(st.just("pub"), ACKS, st.integers(1, 3)),
            ),
            max_size=60,
        )
    )
    def test_they_reach_those_who_listen(self, steps):
        world = World()
        peer, sender = world.connect(), world.connect()
        there: dict[int, bytes] = {}
        for number, (what, arg, more) in enumerate(steps):
            if what == "sub":
                peer.say(b"SUB %s %d\r\n" % (arg, number))
                there[number] = arg
            elif what == "unsub" and arg in there:
                peer.say(b"UNSUB %d\r\n" % arg)
                del there[arg]
            elif what == "pub":
                sender.say(b"PUB %s 2\r\nhi\r\n" % arg * more)
                expected = [b"MSG %s %d 2\r\nhi\r\n" % (arg, n) for n, p in there.items() if matches(arg, p)]
                assert sorted(peer.take().split(b"MSG ")[1:]) == sorted(e[4:] for e in expected * more)

    def test_their_permission_is_looked_up_each_time(self, world):
        peer, sender = world.connect(), world.connect()
        peer.say(b"SUB $JS.ACK.S.C.* 1\r\n")
        sender.client.set_permissions(Permissions(None, [b"$JS.ACK.S.C.2"], None, None, None))
        for number in (1, 3, 2, 1):
            sender.say(b"PUB $JS.ACK.S.C.%d 0\r\n\r\n" % number)
        assert peer.take() == b"".join(b"MSG $JS.ACK.S.C.%d 1 0\r\n\r\n" % number for number in (1, 3, 1))

    def test_they_take_no_room_from_other_matches(self, world):
        peer, sender = world.connect(), world.connect()
        peer.say(b"SUB $JS.ACK.S.C.* 1\r\n")
        sender.say(b"".join(b"PUB $JS.ACK.S.C.%d 0\r\n\r\n" % n for n in range(100)))
        assert peer.take().count(b"MSG ") == 100
        assert world.engine.cached_matches == 0
        assert world.account().sublist_stats()["num_cache_hits"] == 99
