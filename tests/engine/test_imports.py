"""Imports between accounts in the engine: what crosses, what is left behind, and when."""

from __future__ import annotations

import pytest

from natsc.config.transform import Transform
from natsc.engine.transform import Mappings
from natsc.imports import Replies, ServiceImport, StreamImports, set_mappings, set_streams
from natsc.server.imports import both_ways
from natsc.testing.world import SECOND_NS, World


@pytest.fixture
def world() -> World:
    return World()


def import_stream(world: World, subject: str, to: str) -> None:
    here, there = both_ways(subject, to) if subject != to else (None, None)
    streams = StreamImports([(world.account("A"), subject, to.replace("$1", "*"), there, here, False)])
    set_streams(world.engine, world.account("B"), streams)


def import_service(world: World, subject: str, **options: object) -> tuple[ServiceImport, Replies]:
    a, b = world.account("A"), world.account("B")
    settings = {"exported": subject, "many": False, "share": False, "threshold_ns": SECOND_NS, **options}
    return ServiceImport(world.engine, b, a, subject, subject, None, **settings), Replies(world.engine, a)


def peers(world: World) -> tuple[object, object]:
    return world.connect(account="A"), world.connect(account="B")


def test_a_shadow_leaves_no_node_behind(world: World) -> None:
    import_stream(world, "foo.*", "bar.$1")
    _, b = peers(world)
    b.say(b"SUB bar.* 1\r\nSUB bar.x 2\r\nSUB > 3\r\n")
    assert world.account("A").num_subs == 3
    b.say(b"UNSUB 1\r\nUNSUB 2\r\nUNSUB 3\r\n")
    assert (world.account("A").num_subs, world.account("A").num_nodes) == (0, 0)


def test_imports_that_come_later_reach_what_is_there(world: World) -> None:
    a, b = peers(world)
    b.say(b"SUB bar.x 1\r\n")
    import_stream(world, "foo.*", "bar.$1")
    a.say(b"PUB foo.x 1\r\ny\r\n")
    assert b.take() == b"MSG bar.x 1 1\r\ny\r\n"
    set_streams(world.engine, world.account("B"), None)
    a.say(b"PUB foo.x 1\r\ny\r\n")
    assert (b.take(), world.account("A").num_subs) == (b"", 0)


def test_a_closed_client_takes_its_shadows_along(world: World) -> None:
    import_stream(world, "foo", "foo")
    a, b = peers(world)
    b.say(b"SUB foo 1\r\nSUB > 2\r\n")
    b.say(b"nonsense\r\n")
    assert b.closed and world.account("A").num_subs == 0
    a.say(b"PUB foo 0\r\n\r\n")


def test_chunks_make_no_difference(world: World) -> None:
    import_stream(world, "foo.*", "bar.$1")
    a, b = peers(world)
    b.say(b"SUB bar.* 1\r\n")
    for step in (1, 3, 1000):
        a.say(b"PUB foo.x 2\r\nhi\r\nPUB foo.y rep 1\r\n!\r\n", step)
        assert b.take() == b"MSG bar.x 1 2\r\nhi\r\nMSG bar.y 1 rep 1\r\n!\r\n"


def test_a_request_that_is_never_answered_is_forgotten(world: World) -> None:
    service, _replies = import_service(world, "add")
    a, b = peers(world)
    a.say(b"SUB add 1\r\n")
    b.say(b"SUB inbox 1\r\nPUB add inbox 0\r\n\r\n")
    assert service.num_responses == 1
    world.advance(SECOND_NS - 1)
    assert service.num_responses == 1
    world.advance(1)
    assert service.num_responses == 0


def test_an_answer_postpones_the_end_of_many(world: World) -> None:
    service, _replies = import_service(world, "add", many=True)
    a, b = peers(world)
    a.say(b"SUB add 1\r\n")
    b.say(b"SUB inbox 1\r\nPUB add inbox 0\r\n\r\n")
    reply = a.take().split()[3]
    world.advance(SECOND_NS - 1)
    a.say(b"PUB " + reply + b" 1\r\n1\r\n")
    world.advance(SECOND_NS - 1)
    a.say(b"PUB " + reply + b" 1\r\n2\r\n")
    assert b.take() == b"MSG inbox 1 1\r\n1\r\nMSG inbox 1 1\r\n2\r\n"
    assert service.num_responses == 1


def test_closing_a_service_forgets_its_requests(world: World) -> None:
    service, _replies = import_service(world, "add")
    a, b = peers(world)
    a.say(b"SUB add 1\r\n")
    b.say(b"SUB inbox 1\r\n" + b"PUB add inbox 0\r\n\r\n" * 200)
    reply = a.take().split()[3]
    service.close()
    assert service.num_responses == 0
    a.say(b"PUB " + reply + b" 1\r\n1\r\n")
    b.say(b"PUB add inbox 0\r\n\r\n")
    assert (b.take(), a.take()) == (b"", b"")


def test_nobody_there_leaves_nothing(world: World) -> None:
    service, _replies = import_service(world, "add")
    _, b = peers(world)
    b.say(b"SUB inbox 1\r\nPUB add inbox 0\r\n\r\n")
    assert service.num_responses == 0


def test_account_counters_count_what_crosses(world: World) -> None:
    _service, _replies = import_service(world, "add")
    a, b = peers(world)
    a.say(b"SUB add 1\r\n")
    b.say(b"PUB add 3\r\nabc\r\n")
    assert (world.account("B").in_msgs, world.account("A").out_msgs) == (1, 1)


def test_accounts_that_ask_each_other_in_a_circle_come_to_an_end(world: World) -> None:
    """The configuration refuses it; should it happen all the same, it ends."""
    a, b = world.account("A"), world.account("B")
    options = {"exported": "x", "many": False, "share": False, "threshold_ns": SECOND_NS}
    services = [ServiceImport(world.engine, one, other, "x", "x", None, **options) for one, other in ((a, b), (b, a))]
    _, peer = peers(world)
    peer.say(b"PUB x 1\r\n!\r\n")
    assert len(services) == 2


def test_mappings_see_the_subject_before_anything_else(world: World) -> None:
    set_mappings(world.account("A"), Mappings([("old.*", [(100, Transform("old.*", "new.$1"))])]))
    a, _ = peers(world)
    said = a.say(b"SUB > 1\r\nPUB old.x 1\r\n1\r\nPUB new.x 1\r\n2\r\nPUB old.x 1\r\n3\r\n")
    assert said == b"MSG new.x 1 1\r\n1\r\nMSG new.x 1 1\r\n2\r\nMSG new.x 1 1\r\n3\r\n"
