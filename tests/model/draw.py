"""What programs are made of: configurations, subjects, headers.

Times are short, for the machine that moves a clock; the other one makes hours of seconds, and they don't pass. No two
of them end at the same moment, for which comes first then is nobody's business.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tests.model.stream import SECOND

TOKENS = ["a", "b", "a.b", "a.c", "b.c", "a.b.c"]
FILTERS = ["a", "b", "a.*", "*.c", "a.>", ">", "*.*.c", "b.c"]
NAMES = ["A", "B", "C"]

LIMITS: list[tuple[str, Any]] = [
    ("discard", "new"), ("max_msgs", 1), ("max_msgs", 3), ("max_msgs", 6), ("max_bytes", 120), ("max_bytes", 300),
    ("max_msgs_per_subject", 1), ("max_msgs_per_subject", 2), ("discard_new_per_subject", True), ("max_msg_size", 12),
    ("max_msg_size", 60), ("duplicate_window", 0), ("duplicate_window", 2 * SECOND), ("deny_delete", True),
    ("deny_purge", True), ("allow_rollup_hdrs", True), ("allow_rollup_hdrs", True), ("allow_msg_ttl", True),
    ("allow_msg_ttl", True), ("max_age", 3 * SECOND), ("max_age", 9 * SECOND), ("max_age", 9 * SECOND),
    ("first_seq", 7), ("allow_direct", True), ("allow_direct", True), ("subject_transform", None),
]  # fmt: skip
CONSUMING: list[tuple[str, Any]] = [
    ("ack_policy", "none"), ("ack_policy", "all"), ("deliver_policy", "last"), ("deliver_policy", "new"),
    ("deliver_policy", "last_per_subject"), ("deliver_policy", "by_start_sequence"),
    ("deliver_policy", "by_start_time"), ("max_deliver", 1), ("max_deliver", 2), ("max_ack_pending", 1),
    ("max_ack_pending", 2), ("max_ack_pending", 3), ("headers_only", True), ("deliver_subject", "push"),
    ("deliver_subject", "push"), ("filter", 1), ("filter", 1), ("filter", 2), ("filter", 2), ("mem_storage", True),
    ("ack_wait", 2_100_000_000), ("ack_wait", 7_300_000_000), ("backoff", [1_100_000_000, 4_700_000_000]),
]  # fmt: skip

some_limits = st.lists(st.sampled_from(LIMITS), max_size=4).map(dict)
stream_configs = st.builds(
    dict,
    some_limits,
    storage=st.sampled_from(["memory", "file"]),
    retention=st.sampled_from(["limits", "limits", "interest", "workqueue"]),
)
consumer_configs = st.tuples(
    st.lists(st.sampled_from(CONSUMING), max_size=4).map(dict),
    st.lists(st.sampled_from(FILTERS), min_size=2, max_size=2, unique=True),
    st.integers(1, 12),
)
stream_with_consumers = st.tuples(stream_configs, st.lists(consumer_configs, max_size=3))
bodies = st.sampled_from([b"", b"x", b"hello", b"y" * 30])
seqs = st.integers(0, 14)
names = st.sampled_from(NAMES)
which_consumer = st.integers(0, 2)
tokens = st.sampled_from(TOKENS)
ids = st.sampled_from(["one", "two", "three"])
header_sets = st.lists(
    st.one_of(
        st.tuples(st.just("Nats-Msg-Id"), ids),
        st.tuples(st.just("Nats-Msg-Id"), ids),
        st.tuples(st.just("Nats-Expected-Last-Msg-Id"), ids),
        st.tuples(st.just("Nats-Expected-Stream"), st.sampled_from(["this", "other"])),
        st.tuples(st.just("Nats-Expected-Last-Sequence"), st.integers(0, 1)),
        st.tuples(st.just("Nats-Expected-Last-Subject-Sequence"), st.integers(0, 1)),
        st.tuples(st.just("Nats-Expected-Last-Subject-Sequence-Subject"), st.sampled_from([*TOKENS, *FILTERS])),
        st.tuples(st.just("Nats-Rollup"), st.sampled_from(["sub", "sub", "all", "none"])),
        st.tuples(st.just("Nats-TTL"), st.sampled_from(["2", "2", "5", "never", "x"])),
        st.tuples(st.just("Key"), st.just("value")),
    ),
    min_size=1,
    max_size=3,
).map(dict)
# A TTL alone is what most messages should have that have one.
header_sets |= st.sampled_from(["2", "5", "never"]).map(lambda ttl: {"Nats-TTL": ttl})
