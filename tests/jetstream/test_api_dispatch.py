"""The dispatcher where it depends on the account: JetStream off, statistics, domains, strictness, pages, identities."""

from __future__ import annotations

import json
from typing import Any

import pytest

from natsc.jetstream.api import PREFIX, dispatch, find_operation
from natsc.jetstream.api_request import Request, header
from natsc.jetstream.api_stream import SnapshotRequest, restored
from natsc.jetstream.api_system import dispatch_system
from natsc.jetstream.backend import StoreError
from natsc.jetstream.quota import AccountLimits
from tests.jetstream.fake import FakeBackend


def ask(backend: FakeBackend, operation: str, body: Any = b"", headers: bytes = b"") -> dict[str, Any]:
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = dispatch(Request(PREFIX + operation, payload, headers), backend)
    assert reply is not None
    answer: dict[str, Any] = json.loads(reply.payload)
    return answer


@pytest.fixture
def backend() -> FakeBackend:
    made = FakeBackend()
    ask(made, "STREAM.CREATE.S", {"name": "S"})
    return made


def test_jetstream_is_off_for_the_account(backend: FakeBackend) -> None:
    backend.enabled = False
    assert ask(backend, "INFO") == {
        "type": "io.nats.jetstream.api.v1.account_info_response",
        "error": {"code": 503, "err_code": 10039, "description": "JetStream not enabled for account"},
    }


@pytest.mark.parametrize("operation", ["INFO", "STREAM.INFO.S", "CONSUMER.CREATE.S.C", "CONSUMER.PAUSE.S.C"])
def test_with_leaf_nodes_somebody_else_may_answer(backend: FakeBackend, operation: str) -> None:
    backend.enabled = backend.alone = False
    assert dispatch(Request(PREFIX + operation, b""), backend) is None


def test_other_subjects_are_not_the_api(backend: FakeBackend) -> None:
    assert dispatch(Request("$JS.ACK.S.C.1.1.1.1.0", b""), backend) is None


def test_requests_and_errors_are_counted(backend: FakeBackend) -> None:
    ask(backend, "STREAM.INFO.N")
    api = ask(backend, "INFO")["api"]
    assert api == {"level": 5, "total": 2, "errors": 1}


def test_messages_that_are_got_are_not_counted(backend: FakeBackend) -> None:
    stream = backend.stream("S")
    assert stream is not None
    stream.store("S", b"x")
    before = backend.api_total
    ask(backend, "STREAM.MSG.GET.S", {"seq": 1})
    assert backend.api_total == before


def test_a_message_that_cant_be_deleted_is_no_error_in_the_statistics(backend: FakeBackend) -> None:
    assert ask(backend, "STREAM.MSG.DELETE.S", {"seq": 0})["error"]["err_code"] == 10043
    assert backend.api_errors == 0


def test_unknown_members_may_be_allowed(backend: FakeBackend) -> None:
    backend.strict = False
    assert ask(backend, "STREAM.INFO.S", {"unknown": 1})["config"]["name"] == "S"


def test_errors_without_strictness_have_no_offset(backend: FakeBackend) -> None:
    backend.strict = False
    text = ask(backend, "STREAM.CREATE.T", b"{]")["error"]["description"]
    assert text == "invalid JSON: invalid character ']' looking for beginning of object key string"


def test_the_domain_is_in_infos_and_updates_but_not_in_creations(backend: FakeBackend) -> None:
    backend.domain = "D"
    assert ask(backend, "STREAM.INFO.S")["domain"] == "D"
    assert ask(backend, "STREAM.UPDATE.S", {"name": "S"})["domain"] == "D"
    assert "domain" not in ask(backend, "STREAM.CREATE.T", {"name": "T"})


def test_names_come_in_pages() -> None:
    backend = FakeBackend()
    for number in range(1030):
        ask(backend, f"STREAM.CREATE.s{number:04d}", {"name": f"s{number:04d}"})
    first = ask(backend, "STREAM.NAMES")
    assert (first["total"], first["offset"], first["limit"], len(first["streams"])) == (1030, 0, 1024, 1024)
    rest = ask(backend, "STREAM.NAMES", {"offset": 1024})
    assert rest["streams"] == [f"s{number:04d}" for number in range(1024, 1030)]
    listed = ask(backend, "STREAM.LIST", {"offset": 1000})
    assert (listed["limit"], len(listed["streams"])) == (256, 30)


def test_failures_of_the_store_stay_in_the_log(backend: FakeBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(config: object) -> None:
        raise StoreError("/var/secret: no space")

    monkeypatch.setattr(backend, "create_stream", fail)
    error = ask(backend, "STREAM.CREATE.T", {"name": "T"})["error"]
    assert error == {"code": 500, "err_code": 10049, "description": "error creating store for stream"}


def test_consumers_of_other_servers_learn_the_streams_identity(backend: FakeBackend) -> None:
    body = {"stream_name": "S", "config": {"deliver_subject": "d", "direct": True}}
    reply = dispatch(Request(f"{PREFIX}CONSUMER.CREATE.S", json.dumps(body).encode()), backend)
    assert reply is not None
    assert header(reply.headers, "Nats-Stream-Identity") == "IDENTITY"


def test_the_identity_must_be_the_one_that_is_expected(backend: FakeBackend) -> None:
    body = {"stream_name": "S", "config": {"deliver_subject": "d", "direct": True}}
    answer = ask(backend, "CONSUMER.CREATE.S", body, b"NATS/1.0\r\nNats-Stream-Identity: OTHER\r\n\r\n")
    assert answer["error"]["err_code"] == 10225


def test_direct_consumers_are_not_listed(backend: FakeBackend) -> None:
    ask(backend, "CONSUMER.CREATE.S", {"stream_name": "S", "config": {"deliver_subject": "d", "direct": True}})
    assert ask(backend, "CONSUMER.NAMES.S")["consumers"] == []


def test_a_sourcing_consumer_gets_a_name_for_each_try(backend: FakeBackend) -> None:
    config = {"deliver_subject": "d", "direct": True, "sourcing": True, "name": "X"}
    assert ask(backend, "CONSUMER.CREATE.S.X", {"stream_name": "S", "config": config})["name"] == "X-random01"


def test_sourcing_from_a_work_queue_is_durable() -> None:
    backend = FakeBackend()
    ask(backend, "STREAM.CREATE.S", {"name": "S", "retention": "workqueue"})
    config = {"deliver_subject": "d", "direct": True, "sourcing": True, "name": "X", "inactive_threshold": 5}
    answer = ask(backend, "CONSUMER.CREATE.S.X", {"stream_name": "S", "config": config})["config"]
    assert (answer["durable_name"], answer["ack_policy"]) == ("X", "flow_control")
    assert "direct" not in answer and "inactive_threshold" not in answer


def test_tiers() -> None:
    backend = FakeBackend({"R1": AccountLimits(max_storage=1000), "R3": AccountLimits()})
    ask(backend, "STREAM.CREATE.S", {"name": "S", "max_bytes": 600})
    refused = ask(backend, "STREAM.CREATE.T", {"name": "T", "max_bytes": 600})
    assert refused["error"]["err_code"] == 10047
    info = ask(backend, "INFO")
    assert info["limits"]["max_storage"] == 0
    assert (info["tiers"]["R1"]["streams"], info["tiers"]["R1"]["reserved_storage"]) == (1, 600)
    assert info["tiers"]["R3"]["streams"] == 0


def test_no_limits_for_that_many_replicas() -> None:
    backend = FakeBackend({"R3": AccountLimits()})
    assert ask(backend, "STREAM.CREATE.S", {"name": "S"})["error"]["err_code"] == 10120


def test_names_behind_an_operation() -> None:
    found = find_operation("$JS.API.CONSUMER.CREATE.S.C.a.b")
    assert found is not None
    assert (found[0].stem, found[1]) == ("consumer_create", ["S", "C", "a", "b"])


def test_a_header_must_be_spelled_exactly() -> None:
    block = b"NATS/1.0\r\nX-Nats-Level: 1\r\nNats-Level:  2 \r\nnats-level: 3\r\n\r\n"
    assert header(block, "Nats-Level") == "2 "
    assert header(block, "Level") is None


@pytest.mark.parametrize("operation", ["META.LEADER.STEPDOWN", "SERVER.REMOVE", "ACCOUNT.STREAM.MOVE.A.S", "ACCOUNT.X"])
def test_nobody_answers_the_system_about_clusters(operation: str) -> None:
    assert dispatch_system(Request(PREFIX + operation, b""), lambda account: None) is None


def test_the_system_purges_an_account() -> None:
    purged: list[str] = []
    reply = dispatch_system(Request(f"{PREFIX}ACCOUNT.PURGE.A", b""), purged.append)
    assert reply is not None and b'"initiated":true' in reply.payload
    assert purged == ["A"]


def test_sizes_of_a_snapshot_are_kept_in_bounds() -> None:
    assert SnapshotRequest().sizes() == (128 * 1024, 64)
    assert SnapshotRequest(chunk_size=1, window_size=1).sizes() == (1024, 1)
    assert SnapshotRequest(chunk_size=1 << 30, window_size=1 << 30).sizes() == (1 << 20, 32)


def test_what_the_sender_of_a_snapshot_is_told(backend: FakeBackend) -> None:
    stream = backend.stream("S")
    assert stream is not None
    good = json.loads(restored(stream, backend).payload)
    assert list(good) == ["type", "config", "created", "state", "ts"]
    bad = json.loads(restored(StoreError("broken"), backend).payload)
    assert bad["error"] == {"code": 500, "err_code": 10062, "description": "restore failed: broken"}
