"""Advisories about what a user is denied: a test for each, named after it, through every way that a message can take.

The rules are a user's; the ways are those into an account (another client, an import, a service's answer, a stream's
delivery, a direct get, a republish, a mapping), the doors those that the user comes through.
"""

from __future__ import annotations

import json

import pytest

from .doors import PLAIN_WEBSOCKET, enter
from .test_permissions import subscribe_violation

CONFIG = (
    PLAIN_WEBSOCKET
    + """
jetstream { store_dir: "STORE", max_mem: 100M, max_file: 100M }
accounts {
    A {
        jetstream: enabled
        users [
            {user: u, password: p, permissions { RULES }}
            {user: boss, password: p}
        ]
        imports [ {stream: {account: B, subject: "foo.>"}}, {service: {account: B, subject: "svc"}} ]
        mappings { "mapped.>": "foo.>" }
    }
    B { users [{user: b, password: p}], exports [ {stream: "foo.>"}, {service: "svc"} ] }
}
"""
)
DOORS = ("tcp", "websocket", "deflated")


class World:
    """One server with the rules; `boss` and `other` may everything, in A and in B."""

    def __init__(self, server, rules: str) -> None:
        self.server = server
        self.wires = []
        self.boss, self.other = self.user("tcp", "boss"), self.user("tcp", "b")
        self.admin = self.user("tcp", "boss").sub("_INBOX.admin")

    def user(self, door: str, name: str = "u"):
        wire = enter(door, self.server)
        self.wires.append(wire)
        return wire.ready(**{"user": name, "pass": "p", "no_responders": True})

    def api(self, operation: str, **body: object) -> None:
        answer = self.request(f"$JS.API.{operation}", json.dumps(body))
        assert b'"error"' not in answer, answer

    def request(self, subject: str, payload: str) -> bytes:
        answer = self.admin.pub(subject, payload, "_INBOX.admin").op()
        assert answer.startswith(b"MSG _INBOX.admin ")
        return answer

    def stream(self, **more: object) -> None:
        """One that starts empty."""
        self.request("$JS.API.STREAM.DELETE.S", "")
        self.api("STREAM.CREATE.S", name="S", subjects=["data.>"], storage="memory", allow_direct=True, **more)

    def stored(self, subject: str) -> None:
        assert b'"stream":"S"' in self.request(subject, "x")


# How a message comes to a subject of account A. Each returns when the server has had all that it takes.


def by_a_client(world: World, subject: str) -> None:
    world.boss.pub(subject, "x").flush()


def by_an_import(world: World, subject: str) -> None:
    world.other.pub(subject, "x").flush()


def by_a_mapping(world: World, subject: str) -> None:
    world.boss.pub(f"mapped.{subject.removeprefix('foo.')}", "x").flush()


def by_a_service(world: World, subject: str) -> None:
    """The answer of another account's service, to a reply that the requester chose."""
    world.other.sub("svc", "svc").flush()
    world.boss.pub("svc", "", subject).flush()
    reply = world.other.op().partition(b"\r\n")[0].split()[3].decode()
    world.other.pub(reply, "x").lines("UNSUB svc").flush()
    world.boss.flush()


def by_a_push_consumer(world: World, subject: str) -> None:
    """The message's subject counts, not the one that the consumer delivers to."""
    world.stream(subject_transform={"src": "data.>", "dest": "foo.>"})
    world.stored(f"data.{subject.removeprefix('foo.')}")
    to = f"{subject.rpartition('.')[0]}.delivered"
    world.boss.sub(to, "here").flush()  # the consumer delivers where somebody is interested
    config = {"deliver_subject": to, "ack_policy": "none", "name": "c", "mem_storage": True}
    world.api("CONSUMER.CREATE.S.c", stream_name="S", config=config, action="create")
    delivered(world, "here")


def by_a_direct_get(world: World, subject: str) -> None:
    world.stream()
    world.stored("data.x")
    world.boss.sub(subject, "here").pub("$JS.API.DIRECT.GET.S.data.x", "", subject)
    delivered(world, "here")


def by_a_republish(world: World, subject: str) -> None:
    world.stream(republish={"src": "data.>", "dest": "foo.>"})
    world.boss.sub(subject, "here").flush()
    world.stored(f"data.{subject.removeprefix('foo.')}")
    delivered(world, "here")


def delivered(world: World, sid: str) -> None:
    assert world.boss.op().split()[2] == sid.encode()
    world.boss.lines(f"UNSUB {sid}").flush()


WAYS = {way.__name__: way for way in (
    by_a_client, by_an_import, by_a_mapping, by_a_service, by_a_push_consumer, by_a_direct_get, by_a_republish,
)}  # fmt: skip


@pytest.fixture(scope="module")
def world(shared_server, tmp_path_factory):
    made: dict[str, World] = {}

    def get(rules: str) -> World:
        if rules not in made:
            store = str(tmp_path_factory.mktemp("store"))
            made[rules] = World(shared_server(CONFIG.replace("RULES", rules).replace("STORE", store)), rules)
        return made[rules]

    yield get
    for one in made.values():
        for wire in one.wires:
            wire.close()


def hears(world: World, wire, send, *subjects: str) -> list[str]:
    """Of these subjects, those of which the user's subscription gets the message."""
    wire.flush()
    for subject in subjects:
        send(world, subject)
    world.boss.flush()
    heard = [op.split()[1].decode() for op in wire.flush()]
    wire.lines("UNSUB 1").flush()  # while it is a member of a queue, messages may be its
    return heard


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("queue", [None, "q"])
def test_cve_2022_29946(world, door, queue, way):
    """A subject that is denied inside of a wildcard that is allowed: no member of a queue gets it either."""
    this = world('subscribe: { allow: "foo.*", deny: "foo.secret" }')
    wire = this.user(door).sub("foo.*", 1, queue)
    assert hears(this, wire, WAYS[way], "foo.secret", "foo.open") == ["foo.open"]
    wire.close()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("queue", [None, "q"])
def test_ghsa_wh7g_5m82_pmhr(world, door, queue, way):
    """What is denied overlaps with the subscription and isn't a part of it: delivery decides."""
    this = world('subscribe: { allow: "foo.>", deny: "foo.*.secret" }')
    wire = this.user(door).sub("foo.a.*", 1, queue)
    assert hears(this, wire, WAYS[way], "foo.a.secret", "foo.a.open") == ["foo.a.open"]
    wire.close()


@pytest.mark.parametrize("door", DOORS)
def test_ghsa_wh7g_5m82_pmhr_of_a_queue_another_member_gets_it(world, door):
    this = world('subscribe: { allow: "foo.>", deny: "foo.*.secret" }')
    denied, allowed = this.user(door).sub("foo.a.*", 1, "q"), this.user(door, "boss").sub("foo.a.*", 1, "q")
    allowed.flush()
    assert hears(this, denied, by_a_client, *["foo.a.secret"] * 20) == []
    assert len(allowed.lines("UNSUB 1").flush()) == 20
    denied.close()
    allowed.close()


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("rules", "subject", "queue"),
    [
        ('deny: ["foo.secret", "foo.secret other"]', "foo.secret", "q"),
        ('deny: ["foo.secret", "foo.> other"]', "foo.secret", "q"),
        ('deny: ["foo.>", "foo.secret other"]', "foo.secret", "q"),
        ('allow: "foo.>", deny: ["foo.secret", "* *.other"]', "foo.secret", "q"),
        ('deny: ["foo.secret", "foo.secret q"]', "foo.secret", "q"),
    ],
)
def test_ghsa_jx8g_9g95_6322(world, door, rules, subject, queue):
    """What is denied for some queues too is denied for the others as it is without."""
    wire = world(f"subscribe: {{ {rules} }}").user(door)
    assert wire.sub(subject, 1, queue).flush() == [subscribe_violation(subject, queue)]
    assert wire.sub(subject, 2).flush() == [subscribe_violation(subject)]
    wire.close()
