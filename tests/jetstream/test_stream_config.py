"""Configurations of streams beyond what the comparison with nats-server shows: copies, equality, levels."""

from __future__ import annotations

import pytest

from natsc.jetstream.api_errors import ApiError
from natsc.jetstream.schema import decode
from natsc.jetstream.stream_check import checked
from natsc.jetstream.stream_config import StreamConfig, StreamConfigRequest
from natsc.jetstream.stream_update import create, updated
from natsc.jetstream.versioning import shown, stamp_stream
from tests.jetstream.fake import FakeBackend


def config(text: str) -> StreamConfig:
    return decode(text.encode(), StreamConfigRequest()).config()


def test_a_stored_configuration_is_read_back() -> None:
    first = checked(config('{"name":"S","sources":[{"name":"X"}],"metadata":{"a":"b"}}'), FakeBackend(), False)
    again = StreamConfig()
    decode(str(first.as_json()).replace("'", '"').replace("False", "false").encode(), again)
    assert again == first


def test_checking_leaves_the_request_alone() -> None:
    given = config('{"name":"S","republish":{"dest":"b"}}')
    with pytest.raises(ApiError):
        checked(given, FakeBackend(), False)
    assert given.republish is not None and given.republish.src == ""
    assert given.max_msgs == 0


@pytest.mark.parametrize(
    ("member", "level"),
    [
        ('"no_ack":true', "0"),
        ('"allow_msg_ttl":true', "1"),
        ('"subject_delete_marker_ttl":1000000000', "1"),
        ('"allow_msg_counter":true', "2"),
        ('"allow_atomic":true', "2"),
        ('"allow_msg_schedules":true', "2"),
        ('"persist_mode":"async"', "2"),
        ('"allow_batched":true,"allow_msg_ttl":true', "4"),
    ],
)
def test_levels(member: str, level: str) -> None:
    given = config(f'{{"name":"S",{member}}}')
    stamp_stream(given)
    assert given.metadata == {"_nats.req.level": level}


def test_the_servers_level_is_shown_but_not_kept() -> None:
    given = config('{"name":"S"}')
    stamp_stream(given)
    assert shown(given)["metadata"] == {"_nats.level": "5", "_nats.req.level": "0", "_nats.ver": "2.15.1"}
    assert given.metadata == {"_nats.req.level": "0"}


def test_creating_the_same_stream_again_finds_it() -> None:
    backend = FakeBackend()
    first = create(config('{"name":"S"}'), backend, False)
    assert create(config('{"name":"S"}'), backend, False) is first


def test_an_update_that_is_refused_changes_nothing() -> None:
    backend = FakeBackend()
    stream = create(config('{"name":"S","max_bytes":100}'), backend, False)
    before = stream.config.clone()
    with pytest.raises(ApiError):
        updated(stream, config('{"name":"S","storage":"memory"}'), backend, False)
    assert stream.config == before


def test_an_update_keeps_the_size_it_was_given() -> None:
    backend = FakeBackend()
    stream = create(config('{"name":"S","max_bytes":100}'), backend, False)
    assert updated(stream, config('{"name":"S","max_bytes":150}'), backend, False).max_bytes == 150


def test_a_mirror_can_be_promoted() -> None:
    backend = FakeBackend()
    stream = create(config('{"name":"S","mirror":{"name":"X"}}'), backend, False)
    promoted = updated(stream, config('{"name":"S","subjects":["s"]}'), backend, False)
    assert promoted.mirror is None
