"""JetStream of accounts by JWT, with one set of limits and with one a replication tier."""

from __future__ import annotations

import json

import pytest

from tests.jwts import account_jwt, user_jwt

from .test_jwt import ACCOUNT, OPERATOR, USER, config, login

NOT_ENABLED, NO_LIMITS, FULL = 10039, 10120, 10002
STREAMS_EXCEEDED, STORAGE_EXCEEDED, MEMORY_EXCEEDED = 10027, 10047, 10028
USED = dict.fromkeys(("memory", "storage", "reserved_memory", "reserved_storage", "streams", "consumers"), 0)
STORE = 'jetstream {{ store_dir: "{}", max_mem: 100M, max_file: 100M }}'


def shown(**limits):
    """Limits as INFO shows them; what a JWT doesn't say is 0 or unlimited."""
    return {
        "max_memory": 0, "max_storage": 0, "max_streams": 0, "max_consumers": 0, "max_ack_pending": -1,
        "memory_max_stream_bytes": -1, "storage_max_stream_bytes": -1, "max_bytes_required": False, **limits,
    }  # fmt: skip


def with_limits(store, limits):
    return config(account_jwt(ACCOUNT, OPERATOR, limits=limits), more=STORE.format(store))


@pytest.fixture
def account(shared_server, dial, tmp_path):
    """Makes a server whose account has such limits, and a client of it; asks the API."""

    def make(**limits):
        server = shared_server(with_limits(tmp_path, limits))
        return Asker(login(dial, server, user_jwt(USER, ACCOUNT)).sub("in"), server)

    return make


class Asker:
    def __init__(self, wire, server):
        self.wire = wire
        self.server = server

    def ask(self, subject, body="", payload=None):
        asked = json.dumps(body) if payload is None and body else payload or ""
        answer = json.loads(self.wire.pub(subject, asked, "in").op().split(b"\r\n", 1)[1])
        return answer.get("error", {}).get("err_code") or answer

    def info(self):
        answer = self.ask("$JS.API.INFO")
        if isinstance(answer, dict):
            del answer["api"], answer["type"]
        return answer

    def create(self, name, **more):
        answer = self.ask(f"$JS.API.STREAM.CREATE.{name}", {"name": name, "subjects": [name], **more})
        return answer if isinstance(answer, int) else "created"


def test_one_set_of_limits(account):
    asker = account(mem_storage=1000, disk_storage=2000, mem_max_stream_bytes=500)
    limits = shown(max_memory=1000, max_storage=2000, memory_max_stream_bytes=500)
    assert asker.info() == {**USED, "limits": limits}


def test_tiers_that_are_not_used(account):
    asker = account(tiered_limits={
        "R1": {"disk_storage": 1 << 20, "consumer": -1, "streams": -1},
        "R3": {"mem_storage": -1, "disk_storage": 5, "consumer": 3, "streams": 2, "max_ack_pending": 7,
               "mem_max_stream_bytes": 9, "disk_max_stream_bytes": 8, "max_bytes_required": True},
    })  # fmt: skip
    r3 = shown(
        max_memory=-1, max_storage=5, max_streams=2, max_consumers=3, max_ack_pending=7,
        memory_max_stream_bytes=9, storage_max_stream_bytes=8, max_bytes_required=True,
    )  # fmt: skip
    assert asker.info() == {**USED, "limits": {**shown(), "max_ack_pending": 0, "memory_max_stream_bytes": 0,
        "storage_max_stream_bytes": 0}, "tiers": {
        "R1": {**USED, "limits": shown(max_storage=1 << 20, max_streams=-1, max_consumers=-1)},
        "R3": {**USED, "limits": r3},
    }}  # fmt: skip


def test_a_tier_that_is_used(account):
    asker = account(tiered_limits={"R1": {"mem_storage": 1000, "streams": 2}, "R3": {"mem_storage": 1}})
    assert asker.create("a", storage="memory", max_bytes=600) == "created"
    assert asker.create("b", storage="memory", max_bytes=600) == MEMORY_EXCEEDED
    assert asker.create("b", storage="memory", max_bytes=100) == "created"
    assert asker.create("c", storage="memory", max_bytes=100) == STREAMS_EXCEEDED
    consumer = {"stream_name": "a", "config": {"durable_name": "C", "ack_policy": "explicit"}}
    asker.ask("$JS.API.CONSUMER.CREATE.a.C", consumer)
    assert asker.ask("a", payload="x" * 100)["seq"] == 1
    info = asker.info()
    tier = {**info["tiers"]["R1"], "limits": None}
    used = {"memory": tier["memory"], "storage": 0, "reserved_memory": 700, "reserved_storage": 0}
    assert tier == {**used, "streams": 2, "consumers": 1, "limits": None}
    assert {name: info[name] for name in USED} == {name: tier[name] for name in USED}
    assert tier["memory"] > 100


def test_messages_that_a_tier_has_no_room_for(account):
    asker = account(tiered_limits={"R1": {"mem_storage": 1000, "disk_storage": -1}})
    asker.create("a", storage="memory")
    assert asker.ask("a", payload="x" * 900)["seq"] == 1
    assert asker.ask("a", payload="x" * 900) == FULL


def test_no_tier_for_one_replica(account):
    asker = account(tiered_limits={"R3": {"disk_storage": -1, "mem_storage": -1}})
    assert asker.create("a") == NO_LIMITS
    assert list(asker.info()["tiers"]) == ["R3"]


def test_a_tier_with_nothing_beside_one_with_something(account):
    asker = account(tiered_limits={"R1": {"streams": -1}, "R3": {"disk_storage": -1}})
    assert asker.create("a") == STORAGE_EXCEEDED
    assert asker.create("a", storage="memory") == MEMORY_EXCEEDED


def test_tiers_with_nothing(account):
    assert account(tiered_limits={"R1": {"streams": -1}, "R3": {"consumer": 5}}).info() == NOT_ENABLED


def test_limits_beside_tiers(account):
    asker = account(disk_storage=-1, mem_storage=-1, tiered_limits={"R1": {"disk_storage": 10}})
    info = asker.info()
    assert (info["limits"]["max_storage"], info["tiers"]["R1"]["limits"]["max_storage"]) == (0, 10)


def test_monitoring(account):
    asker = account(tiered_limits={"R1": {"disk_storage": 1000}})
    asker.create("a")
    [detail] = asker.server.get("/jsz?accounts=1").json()["account_details"]
    assert (detail["reserved_memory"], detail["reserved_storage"]) == (0, 0)


def test_tiers_that_come_and_go(account, tmp_path):
    """A reload with another JWT of the account."""
    asker = account(tiered_limits={"R1": {"disk_storage": 1000, "mem_storage": 1000}})
    asker.create("a", storage="memory", max_bytes=500)
    for limits, tiers in (({"mem_storage": 700}, None), ({"tiered_limits": {"R1": {"mem_storage": 600}}}, 600)):
        asker.server.reload(with_limits(tmp_path, limits))
        info = asker.info()
        assert info["streams"] == 1
        assert (info["tiers"]["R1"]["limits"]["max_memory"] if "tiers" in info else None) == tiers


def test_a_tier_that_goes_while_it_is_used(account, server_kind, tmp_path):
    asker = account(tiered_limits={"R1": {"disk_storage": 1000, "mem_storage": 1000}})
    asker.create("a", storage="memory")
    assert asker.ask("a", payload="x")["seq"] == 1
    asker.server.reload(with_limits(tmp_path, {"tiered_limits": {"R3": {"mem_storage": 1000}}}))
    assert asker.ask("a", payload="x") == NO_LIMITS
    tiers = asker.info()["tiers"]
    assert (tiers["R1"]["streams"], tiers["R1"]["limits"]["max_memory"]) == (1, 0)
    # The difference "A tier that came in the place of another".
    assert list(tiers) == (["R1", "R3"] if server_kind == "natsc" else ["R1"])
