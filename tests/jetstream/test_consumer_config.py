"""Configurations of consumers beyond what the comparison with nats-server shows."""

from __future__ import annotations

import pytest

from natsc.jetstream.api_errors import ApiError
from natsc.jetstream.consumer_check import change_error, create_or_update, fill_defaults
from natsc.jetstream.consumer_config import ConsumerConfig, ConsumerState, consumer_info_json
from natsc.jetstream.gotime import Time
from natsc.jetstream.quota import AccountLimits, ServerLimits
from natsc.jetstream.stream_config import ConsumerLimits, StreamConfig
from natsc.jetstream.versioning import stamp_consumer
from tests.jetstream.fake import START, FakeBackend, FakeStream


def filled(
    server: ServerLimits | None = None, account: AccountLimits | None = None, **values: object
) -> ConsumerConfig:
    config = ConsumerConfig(**values)
    fill_defaults(config, StreamConfig(name="S"), server or ServerLimits(), account or AccountLimits(), False)
    return config


def test_the_smallest_limit_of_pending_acks_counts() -> None:
    server, account = ServerLimits(max_ack_pending=500), AccountLimits(max_ack_pending=200)
    assert filled(server, account, ack_policy="explicit").max_ack_pending == 200
    assert filled(server, ack_policy="explicit").max_ack_pending == 500
    assert filled(ack_policy="explicit").max_ack_pending == 1000


def test_a_servers_batch_limit_is_every_pull_consumers() -> None:
    server = ServerLimits(max_batch=50)
    assert filled(server).max_batch == 50
    assert filled(server, deliver_subject="d").max_batch == 0


def test_backoff_overrides_ack_wait() -> None:
    assert filled(backoff=[5, 6], ack_wait=9, ack_policy="explicit").ack_wait == 5


def test_a_streams_limits_are_the_defaults() -> None:
    config = ConsumerConfig(ack_policy="explicit")
    limits = ConsumerLimits(inactive_threshold=7, max_ack_pending=8)
    fill_defaults(config, StreamConfig(name="S", consumer_limits=limits), ServerLimits(), AccountLimits(), False)
    assert (config.inactive_threshold, config.max_ack_pending) == (7, 8)


def test_replicas_of_ephemeral_consumers() -> None:
    stream = StreamConfig(name="S", num_replicas=3)
    assert ConsumerConfig().replicas(stream) == 1
    assert ConsumerConfig(durable_name="C").replicas(stream) == 3
    assert ConsumerConfig(num_replicas=2).replicas(stream) == 2
    stream.retention = "interest"
    assert ConsumerConfig().replicas(stream) == 3


def test_a_deliver_subject_can_change_while_nobody_listens() -> None:
    backend = FakeBackend()
    old, new = ConsumerConfig(deliver_subject="d1"), ConsumerConfig(deliver_subject="d2")
    assert change_error(old, new, backend) is None
    backend.listening.add("d1")
    wrong = change_error(old, new, backend)
    assert isinstance(wrong, ApiError) and wrong.err_code == 10013


def test_the_same_start_time_may_be_written_otherwise() -> None:
    old, new = ConsumerConfig(opt_start_time=Time(START)), ConsumerConfig(opt_start_time=Time(START, 60))
    assert old != new
    assert change_error(old, new, FakeBackend()) is None


@pytest.mark.parametrize(
    ("values", "level"),
    [
        ({}, "0"),
        ({"pause_until": Time(START)}, "1"),
        ({"priority_policy": "overflow"}, "1"),
        ({"ack_policy": "flow_control"}, "4"),
    ],
)
def test_levels(values: dict[str, object], level: str) -> None:
    config = ConsumerConfig(**values)
    stamp_consumer(config)
    assert config.metadata == {"_nats.req.level": level}


def test_an_unnamed_consumer_gets_a_random_name_that_its_configuration_does_not_show() -> None:
    backend = FakeBackend()
    stream = FakeStream(backend, StreamConfig(name="S", num_replicas=1))
    consumer = create_or_update(stream, ConsumerConfig(), "", backend, False)
    assert (consumer.name, consumer.config.name) == ("random01", "")


def test_redeliveries_are_not_told_where_there_are_none() -> None:
    state = ConsumerState()
    state.num_redelivered = 5
    shown = consumer_info_json("S", "C", START, ConsumerConfig(max_deliver=1), state, START)
    assert shown["num_redelivered"] == 0


def test_a_pause_and_what_is_left_of_it() -> None:
    config = ConsumerConfig(pause_until=Time(START + 500))
    shown = consumer_info_json("S", "C", START, config, ConsumerState(), START)
    assert (shown["paused"], shown["pause_remaining"]) == (True, 500)
    assert "paused" not in consumer_info_json("S", "C", START, config, ConsumerState(), START + 500)
