"""Who may publish and subscribe to what, against an oracle that looks at every entry."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from natsc.engine.permissions import Permissions
from natsc.testing.oracle import is_valid_subscription, may_publish, may_receive, may_subscribe
from natsc.testing.world import SECOND_NS, Peer, User, World

TOKENS = st.sampled_from([b"a", b"b", b"c", b"*", b">", b"a*"])
SUBJECTS = st.lists(TOKENS, min_size=1, max_size=4).map(b".".join)
LITERALS = st.lists(st.sampled_from([b"a", b"b", b"c"]), min_size=1, max_size=4).map(b".".join)
ENTRIES = SUBJECTS.filter(is_valid_subscription)
QUEUES = st.sampled_from([b"", b"", b"q", b"q.x", b"q.y", b"q.*", b">", b"*"])
SUBJECT_LISTS = st.one_of(st.none(), st.lists(ENTRIES, max_size=4))
ENTRY_LISTS = st.one_of(st.none(), st.lists(st.tuples(ENTRIES, QUEUES), max_size=4))


def connected(permissions: Permissions, world: World | None = None) -> Peer:
    world = world or World()
    peer = world.connect()
    peer.client.set_permissions(permissions)
    return peer


@given(SUBJECT_LISTS, SUBJECT_LISTS, SUBJECTS)
def test_publish(allow, deny, subject):
    permissions = Permissions(allow, deny, None, None, None)
    expected = may_publish(subject, allow, deny)
    assert permissions.can_publish(subject) == expected
    peer = connected(permissions)
    for _ in range(2):  # the second time from memory
        answer = peer.say(b"PUB %s 0\r\n\r\n" % subject)
        assert (answer == b"") == expected, answer


@given(ENTRY_LISTS, ENTRY_LISTS, ENTRIES, st.sampled_from([b"", b"q", b"q.x", b"other"]))
def test_subscribe(allow, deny, subject, queue):
    peer = connected(Permissions(None, None, allow, deny, None))
    answer = peer.say(b"SUB %s %s 1\r\n" % (subject, queue))
    assert (answer == b"") == may_subscribe(subject, queue, allow, deny), answer
    assert peer.client.num_subs == (answer == b"")


@given(ENTRY_LISTS, ENTRIES, st.sampled_from([b"", b"q", b"q.x", b"other"]), LITERALS)
def test_delivery_is_filtered(deny, subject, queue, published):
    """A wildcard subscription that overlaps a denied subject gets what isn't denied."""
    world = World()
    peer = connected(Permissions(None, None, None, deny, None), world)
    assume(may_subscribe(subject, queue, None, deny))
    free, sender = world.connect(), world.connect()
    free.say(b"SUB %s 1\r\n" % subject)
    assert peer.say(b"SUB %s %s 1\r\n" % (subject, queue)) == b""
    for _ in range(2):
        sender.say(b"PUB %s 0\r\n\r\n" % published)
        wanted = free.take() if may_receive(published, queue, deny) else free.take() and b""
        assert peer.take() == wanted


@pytest.mark.parametrize("subject", [b"", b".", b"a..b", b"a b", b">.a", b"a.", b"a\tb", b"a\r"])
@pytest.mark.parametrize("where", range(4))
def test_invalid_entries_are_refused(subject, where):
    lists = [None, None, None, None]
    lists[where] = [subject] if where < 2 else [(subject, b"")]
    with pytest.raises(ValueError, match="invalid subject"):
        Permissions(*lists, None)


class TestRules:
    def test_an_empty_allow_list_for_publishing_allows_nothing(self):
        assert not Permissions([], None, None, None, None).can_publish(b"a")

    def test_permissions_of_two_users_and_one_cached_match(self, world):
        one = connected(Permissions([b"a"], None, None, None, None), world)
        two = connected(Permissions([b"b"], None, None, None, None), world)
        for _ in range(3):
            assert one.say(b"PUB a 0\r\n\r\n") == b""
            assert two.say(b"PUB a 0\r\n\r\n") == b"-ERR 'Permissions Violation for Publish to \"a\"'\r\n"

    def test_new_permissions_hold_at_once(self, world):
        peer = connected(Permissions([b"a"], None, None, None, None), world)
        assert peer.say(b"PUB a 0\r\n\r\n") == b""
        peer.client.set_permissions(Permissions([b"b"], None, None, None, None))
        assert peer.say(b"PUB a 0\r\n\r\n") != b""
        peer.client.set_permissions(None)
        assert peer.say(b"PUB a 0\r\n\r\n") == b""

    def test_prune(self, world):
        peer = world.connect()
        peer.say(b"SUB a 1\r\nSUB b q 2\r\nSUB c.* 3\r\nSUB d 4\r\n")
        peer.client.set_permissions(Permissions(None, None, [(b"a", b""), (b"c.>", b"")], [(b"c.x", b"")], None))
        assert sorted(peer.client.prune_subscriptions()) == [(b"b", b"q", b"2"), (b"d", None, b"4")]
        assert sorted(s[2] for s in peer.client.subscriptions()) == [b"1", b"3"]
        sender = world.connect()
        sender.say(b"PUB c.x 0\r\n\r\nPUB c.y 0\r\n\r\n")
        assert peer.take() == b"MSG c.y 3 0\r\n\r\n"

    def test_a_denied_queue_member_is_passed_over(self, world):
        denied = connected(Permissions(None, None, None, [(b"a.x", b"")], None), world)
        free, sender = world.connect(), world.connect()
        denied.say(b"SUB a.* q 1\r\n")
        free.say(b"SUB a.* q 1\r\n")
        sender.say(b"PUB a.x 0\r\n\r\n" * 20)
        assert (denied.take(), free.take()) == (b"", b"MSG a.x 1 0\r\n\r\n" * 20)

    @pytest.mark.parametrize("subject", [b"_R_.x", b"$JS.ACK.x", b"_GR_.x", b"$GR.x"])
    def test_reserved_replies(self, world, subject):
        assert world.connect().say(b"PUB a %s 0\r\n\r\n" % subject) == (
            b"-ERR 'Permissions Violation for Publish with Reply of \"%s\"'\r\n" % subject
        )

    @pytest.mark.parametrize("subject", [b"$NRG.x", b"_GR_.x", b"$GR.x"])
    def test_reserved_subjects(self, world, subject):
        assert (
            world.connect().say(b"PUB %s 0\r\n\r\n" % subject)
            == b"-ERR 'Permissions Violation for Publish to \"%s\"'\r\n" % subject
        )

    @pytest.mark.parametrize("subject", [b"_R_.x", b"$JS.ACK.x", b"$JS.API.x", b"$SYS.x", b"_GR_", b"$GR"])
    def test_what_looks_reserved_and_is_not(self, world, subject):
        assert world.connect().say(b"PUB %s 0\r\n\r\n" % subject) == b""


REPLIES = [b"inbox.%d" % i for i in range(3)]


class Responses(RuleBasedStateMachine):
    """allow_responses: at most two messages to the reply of a request, within ten seconds."""

    MAX, TTL_NS = 2, 10 * SECOND_NS

    def __init__(self) -> None:
        super().__init__()
        permissions = Permissions([b"own"], None, None, None, (self.MAX, self.TTL_NS))
        self.world = World(users={"service": User(permissions=permissions), "any": User()})
        self.service, self.any = self.world.connect(), self.world.connect()
        self.service.say(b'CONNECT {"verbose":false,"user":"service"}\r\nSUB req 1\r\n')
        self.any.say(b'CONNECT {"verbose":false,"user":"any"}\r\nSUB inbox.* 1\r\n')
        self.tracked: dict[bytes, list[int]] = {}  # subject: [used, since]
        self.now = 0

    def allowed(self, subject: bytes) -> bool:
        entry = self.tracked.get(subject)
        if entry is None:
            return False
        entry[0] += 1
        if entry[0] > self.MAX or self.now - entry[1] > self.TTL_NS:
            del self.tracked[subject]
            return False
        return True

    @rule(reply=st.sampled_from([*REPLIES, b"own"]))
    def request(self, reply: bytes) -> None:
        self.any.say(b"PUB req %s 0\r\n\r\n" % reply)
        assert self.service.take() == b"MSG req 1 %s 0\r\n\r\n" % reply
        if reply != b"own" and not self.allowed(reply):
            self.tracked[reply] = [0, self.now]

    @rule(subject=st.sampled_from([*REPLIES, b"own", b"other"]))
    def answer(self, subject: bytes) -> None:
        answer = self.service.say(b"PUB %s 0\r\n\r\n" % subject)
        assert (answer == b"") == (subject == b"own" or self.allowed(subject)), answer
        assert (self.any.take() != b"") == (answer == b"" and subject != b"own")

    @rule(seconds=st.integers(0, 12))
    def wait(self, seconds: int) -> None:
        self.world.engine.advance(seconds * SECOND_NS)
        self.now += seconds * SECOND_NS
        self.service.take()  # PINGs
        self.any.take()
        for peer in (self.service, self.any):
            peer.say(b"PONG\r\n")


TestResponses = Responses.TestCase


def test_many_replies_are_remembered_and_forgotten():
    world = World()
    service = connected(Permissions([], None, None, None, (1, 60 * SECOND_NS)), world)
    requester = world.connect()
    service.say(b"SUB req 1\r\n")
    for first in range(0, 10000, 1000):
        requester.say(b"".join(b"PUB req inbox.%d 0\r\n\r\n" % n for n in range(first, first + 1000)))
        service.say(b"".join(b"PUB inbox.%d 0\r\n\r\n" % n for n in range(first, first + 500)))
    service.take()
    assert service.say(b"PUB inbox.9999 0\r\n\r\n") == b""
    assert service.say(b"PUB inbox.9999 0\r\n\r\n") != b""
    assert service.say(b"PUB inbox.600 0\r\n\r\n") == b""
    assert service.say(b"PUB inbox.400 0\r\n\r\n") != b""
    world.advance(61 * SECOND_NS)
    service.take()
    assert service.say(b"PUB inbox.9998 0\r\n\r\n") != b""


def test_without_limits_a_reply_stays_allowed():
    world = World()
    service = connected(Permissions([], None, None, None, (-1, -1)), world)
    requester = world.connect()
    service.say(b"SUB req 1\r\n")
    requester.say(b"PUB req inbox 0\r\n\r\n")
    service.take()
    world.engine.configure(ping_interval_ns=10**18)
    assert service.say(b"PUB inbox 0\r\n\r\n" * 1000) == b""


def test_new_permissions_forget_what_might_have_been_answered():
    permissions = Permissions([], None, None, None, (1, -1))
    world = World()
    service = connected(permissions, world)
    requester = world.connect()
    service.say(b"SUB req 1\r\n")
    requester.say(b"PUB req inbox 0\r\n\r\n")
    service.take()
    service.client.set_permissions(permissions)
    assert service.say(b"PUB inbox 0\r\n\r\n") != b""  # a violation
