"""The same bytes, cut in any way, give every connection the same bytes; and the same seed and script the same again."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from natsc.engine.permissions import Permissions
from natsc.testing.world import SECOND_NS, Peer, World

SUBJECTS = st.sampled_from(
    [b"foo", b"a.b", b"a.b.c", b"a.x", b"inbox.1", b"*", b"a.*", b">", b"a..b", b"$NRG.x", b"_R_.x", b"\xff"]
)
PATTERNS = st.sampled_from(
    [b"foo", b"a.*", b"a.>", b">", b"*.b", b"inbox.*", b"a.b q", b"a.* q", b"> r", b"a..", b"x _sys_"]
)
SIDS = st.sampled_from([b"1", b"2", b"3", b"long-sid"])
BLANKS = st.sampled_from([b" ", b" ", b" ", b"\t", b"  ", b" \t "])
ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b" \r\n"])
PAYLOADS = st.one_of(st.binary(max_size=20), st.sampled_from([b"\r\n", b"PING\r\n", b"x" * 100, b"y" * 5000]))
HEADERS = st.sampled_from([b"NATS/1.0\r\n\r\n", b"NATS/1.0\r\nA: b\r\n\r\n", b"x", b""])


@st.composite
def publish(draw: st.DrawFn) -> bytes:
    words = [draw(SUBJECTS)]
    if draw(st.booleans()):
        words.append(draw(SUBJECTS))
    payload = draw(PAYLOADS)
    if draw(st.integers(0, 3)) == 0:
        header = draw(HEADERS)
        words = [b"HPUB", *words, b"%d" % len(header), b"%d" % (len(header) + len(payload))]
        payload = header + payload
    else:
        words = [draw(st.sampled_from([b"PUB", b"PUB", b"pub"])), *words, b"%d" % len(payload)]
    return draw(BLANKS).join(words) + draw(ENDS) + payload + b"\r\n"


OPERATIONS = st.one_of(
    publish(),
    publish(),
    st.builds(lambda p, sid, b, end: b"SUB%s%s%s%s%s" % (b, p, b, sid, end), PATTERNS, SIDS, BLANKS, ENDS),
    st.builds(
        lambda sid, n, end: b"UNSUB %s%s%s" % (sid, n, end), SIDS, st.sampled_from([b"", b" 1", b" 3", b" x"]), ENDS
    ),
    st.sampled_from([b"PING\r\n", b"ping\n", b"PONG\r\n", b"+OK\r\n", b"INFO {}\r\n", b"PING" + b"x" * 1500 + b"\r\n"]),
    st.builds(
        lambda v, p, e: (
            b'CONNECT {"verbose":%s,"pedantic":%s,"echo":%s,"headers":true,"no_responders":true}\r\n' % (v, p, e)
        ),
        *[st.sampled_from([b"true", b"false"])] * 3,
    ),
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A few operations, some of them damaged."""
    text = b"".join(draw(st.lists(OPERATIONS, min_size=1, max_size=12)))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(text)))
        text = (
            text[:at]
            + draw(st.one_of(st.binary(max_size=3), st.sampled_from([b"\r", b"\n", b" " * 1500])))
            + text[at + draw(st.integers(0, 3)) :]
        )
    return text


def cut(text: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    at = turn = 0
    while at < len(text):
        size = sizes[turn % len(sizes)]
        pieces.append(text[at : at + size])
        at += size
        turn += 1
    return pieces


RULES = Permissions(
    [b"foo", b"a.>"], [b"a.x"], [(b"a.>", b""), (b"foo", b""), (b"inbox.*", b"")], [(b"a.x", b"")], (2, SECOND_NS)
)


def play(steps: list[tuple[int, bytes]], sizes: list[int] | None, options: dict[str, int], rules: bool) -> list[object]:
    """All that can be seen from outside of these inputs."""
    world = World(seed=7, **options)
    peers = [world.connect() for _ in range(3)]
    peers[0].say(b'CONNECT {"verbose":false,"pedantic":false,"headers":true}\r\nSUB > all\r\nSUB a.* q q1\r\n')
    peers[1].say(b"SUB a.> q q2\r\nSUB foo f\r\nUNSUB f 4\r\n")
    for peer in peers:
        peer.blocked = True  # output is taken at the end, or max_pending would depend on how often it is
        if rules:
            peer.client.set_permissions(RULES)
    for who, text in steps:
        peer = peers[who]
        peer.say_pieces(cut(text, sizes) if sizes else [text])
        world.advance(SECOND_NS // 10)
    return [state(peer) for peer in peers] + [world.engine.num_subs, world.engine.in_msgs, world.engine.out_bytes]


def state(peer: Peer) -> tuple[object, ...]:
    c = peer.client
    return (
        peer.take(), peer.reason, c.in_msgs, c.in_bytes, c.out_msgs, c.out_bytes, sorted(c.subscriptions(),
        key=str), c.last_activity_ns - c.start_ns,
    )  # fmt: skip


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "headers": st.just(1), "verbose": st.just(1), "pedantic": st.just(1), "max_payload": st.just(50),
        "max_control_line": st.just(64),
        "max_subs": st.just(2), "max_sub_tokens": st.just(2), "max_pending": st.just(6000),
    },
)  # fmt: skip
STEPS = st.lists(st.tuples(st.integers(0, 2), mutated()), min_size=1, max_size=5)


@settings(max_examples=400)
@given(STEPS, st.lists(st.integers(1, 40), min_size=1, max_size=5), OPTIONS, st.booleans())
def test_any_cut_gives_the_same(steps, sizes, options, rules):
    assert play(steps, sizes, options, rules) == play(steps, None, options, rules)


@settings(max_examples=100)
@given(STEPS, OPTIONS, st.booleans())
def test_byte_by_byte(steps, options, rules):
    assert play(steps, [1], options, rules) == play(steps, None, options, rules)


@given(STEPS, OPTIONS)
def test_the_same_again(steps, options):
    assert play(steps, None, options, False) == play(steps, None, options, False)


def test_the_seed_decides_who_of_a_queue_gets_it():
    def receivers(seed: int) -> bytes:
        world = World(seed=seed)
        peer = world.connect()
        peer.say(b"SUB foo q 1\r\nSUB foo q 2\r\nSUB foo q 3\r\n")
        return peer.say(b"PUB foo 0\r\n\r\n" * 100)

    assert receivers(1) == receivers(1)
    assert len({receivers(seed) for seed in range(20)}) == 20
