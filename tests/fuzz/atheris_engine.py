"""Coverage-guided fuzzing of what reads a stranger's bytes: the protocol engine, CONNECT's JSON, the configuration.

    pip install -e ".[fuzz]" Cython setuptools
    python tests/fuzz/atheris_engine.py --secs 600                  the engine; then the lines of the parser reached
    python tests/fuzz/atheris_engine.py --secs 600 --target connect
    python tests/fuzz/atheris_engine.py --secs 600 --target config
    python tests/fuzz/atheris_engine.py --target engine --replay crash-...

The engine is fuzzed in a build of its own (build/variants/fuzzer), whose compiled code reports its edges and
comparisons to libFuzzer through tests/fuzz/atheris_counters.c. What was found interesting is kept in
build/corpus/<target>, so the next run goes on from there (--fresh forgets it). Afterwards the corpus is played once
more in a build for gcov.

An input of the target engine is two bytes of options and then what a client sends, ~ for many blanks. It is played
whole and cut into pieces; the fuzzer complains about a crash, an exception, answers that depend on the cuts, answers
that are no protocol, and anything that stays behind when all connections are closed.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzz.engine_build import ROOT, build, forget_coverage, line_coverage, print_coverage

if TYPE_CHECKING:
    from natsc.testing.world import Peer, World

CORPUS = ROOT / "build" / "corpus"
COUNTERS = Path(__file__).with_name("atheris_counters.c")
PARSER = ("natsc/engine/parser.pyx", "natsc/engine/parser.pxd")
INPUT_MAX = 2048
FILLER = b" " * 600

WORDS = [
    b"PUB ", b"HPUB ", b"SUB ", b"UNSUB ", b"PING\r\n", b"PONG\r\n", b"CONNECT ", b"INFO {}\r\n", b"+OK\r\n",
    b"-ERR ", b"HMSG ",
    b"\r\n", b"\t", b"  ", b"foo", b"a.b", b"a.*", b">", b"*", b"_INBOX.1", b" 0\r\n\r\n", b" 1\r\nx\r\n",
    b" 12 12\r\n", b" 5\r\nhello\r\n",
    b"NATS/1.0\r\n\r\n", b"1048577", b"999999999", b"9999999999", b"_sys_", b"_R_.x", b"$JS.ACK.x", b"$NRG.x",
    b"_GR_.x", b" q ",
    b"~", b"SUB~~", b'{"verbose":true}', b'"pedantic":', b'"echo":false', b'"headers":true', b'"no_responders":true',
    b"pub ", b"hpub ", b"sub ",
]  # fmt: skip
SEEDS = {
    "engine": [
        b"\x00\x01PING\r\nPONG\r\nPUB foo 5\r\nhello\r\nSUB foo 1\r\nPUB foo 5\r\nhello\r\nUNSUB 1\r\n",
        b'\x00\x03CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n'
        b"SUB a.* q 1\r\nHPUB a.b r 12 14\r\nNATS/1.0\r\n\r\nhi\r\nUNSUB 1 2\r\n",
        b"\x03\x02pub a.b 2\r\nhi\r\nINFO {}\r\n+OK\r\n-ERR 'x'\r\n",
        b"\x01\x02hpub a 12 12\r\nNATS/1.0\r\n\r\n\r\nHMSG a 1 2 2\r\n",
        b"\x08\x04PUB a 12345\r\nSUB a.b.c.d 1\r\nUNSUB 1 2\r\nSUB a 1\r\nSUB a 2\r\nSUB a 3\r\nSUB a 4\r\n",
        b"\x10\x04PUB allowed 1\r\nx\r\nPUB denied 1\r\nx\r\n"
        b"SUB a.* q 1\r\nPUB a.b reply 1\r\nx\r\nPUB reply 0\r\n\r\n",
    ],
    "connect": [
        b'{"verbose":false,"pedantic":true,"tls_required":false,"name":"x","lang":"python","version":"1","protocol":1}',
        b'{"user":"\\u0041","pass":"\\ud800","echo":null,"headers":true,"import":{"a":[1,2.5e3]}}',
    ],
    "config": [
        b"# comment\nlisten: 127.0.0.1:4222\nhttp: 8222 // and\n"
        b'accounts { A { users [ {user: a, password: $PW} ] } }\nPW = "x\\t\\x41"\n',
        b'max_payload: 1MB; ping_interval: "2m"\n'
        b"cluster { port: -1, routes = [nats://a:1, nats-route://b:2] }\ntext: (\nblock\n)\n",
    ],
}


# ---------------------------------------------------------------------------------------------------- targets


MESSAGE = re.compile(
    rb"MSG [^ \r\n]+ [^ \r\n]+ (?:[^ \r\n]+ )?()(\d+)\r\n|HMSG [^ \r\n]+ [^ \r\n]+ (?:[^ \r\n]+ )?(\d+) (\d+)\r\n"
)
LINE = re.compile(rb"(?:PONG|PING|\+OK|-ERR '[^\r]*')\r\n", re.DOTALL)
LONE_END = re.compile(rb"\r(?!\n)|(?<!\r)\n")
NO_LIMITS = {
    "max_payload": 1 << 20,
    "max_control_line": 4096,
    "max_pending": 64 << 20,
    "max_subs": -1,
    "max_sub_tokens": 0,
}
LIMITS = {"max_payload": 64, "max_control_line": 40, "max_pending": 512, "max_subs": 3, "max_sub_tokens": 3}


class EngineTarget:
    """Plays inputs on two engines: whole on one, in pieces on the other.

    An engine costs a millisecond, so these two play all inputs: the same ones, so that their states stay the same.
    """

    def __init__(self) -> None:
        from natsc.engine.permissions import Permissions
        from natsc.testing.world import World

        self.worlds = (World(), World())
        subscribe = [(b"a.>", b""), (b"a", b"q")], [(b"a.x.*", b""), (b"a.*", b"qx")]
        self.permissions = Permissions([b"allowed", b"a.>"], [b"denied", b"a.x"], *subscribe, (2, 10**9))

    def __call__(self, data: bytes) -> None:
        if len(data) < 2:
            return
        options, pace, text = data[0], data[1], data[2:].replace(b"~", FILLER)
        whole = self.play(self.worlds[0], options, [text])
        pieces = self.play(self.worlds[1], options, cut(text, pace))
        assert whole == pieces, (whole, pieces)
        # Half a line end may stand in a subject, with the reference too: its MSG can't be read then.
        if not LONE_END.search(text):
            check_protocol(whole[0])
            check_protocol(whole[1])

    def open(self, world: World, options: int) -> tuple[Peer, Peer]:
        """Who sends and who receives, as the bits of options say."""
        world.headers = bool(options & 1)
        limits = LIMITS if options & 8 else NO_LIMITS
        world.engine.set_client_defaults(verbose=bool(options & 2), pedantic=bool(options & 4), **limits)
        world.engine.configure(trace=bool(options & 32), debug=True)
        world.log.clear()
        world.peers.clear()
        sender, receiver = world.connect(), world.connect()
        # Output is taken at the end, or max_pending would depend on how often it is.
        sender.blocked = receiver.blocked = True
        receiver.say(
            b'CONNECT {"verbose":false,"headers":%s}\r\nSUB > all\r\nSUB a.* q 2\r\nSUB a.b q 3\r\n'
            % (b"true" if options & 64 else b"false")
        )
        if options & 16:
            sender.client.set_permissions(self.permissions)
            receiver.client.set_permissions(self.permissions)
        return sender, receiver

    def play(self, world: World, options: int, pieces: list[bytes]) -> tuple[bytes, bytes, list[object]]:
        """What sender and receiver were sent, and all else that the input did."""
        sender, receiver = self.open(world, options)
        for piece in pieces:
            if not sender.closed:
                world.receive(sender, piece)
        assert sender.client.held_bytes <= 4096 + 2 * sum(map(len, pieces))
        effects: list[object] = [sender.reason, receiver.reason, sender.client.subscriptions()]
        effects += [sender.client.in_msgs, receiver.client.out_bytes]
        # What the log quotes of the input may depend on how much of it was there.
        effects += [entry for entry in world.log if entry[1] not in ("parse", "max_control_line")]
        outputs = sender.take(), receiver.take()
        for peer in (sender, receiver):
            peer.client.close(1)
        world.end_turn()
        assert world.engine.num_subs == world.account().num_nodes == world.account().num_clients == 0
        return *outputs, effects


def cut(text: bytes, pace: int) -> list[bytes]:
    """Pieces of text: of a byte each, or of sizes that pace leads to."""
    pieces = []
    at, size = 0, pace
    while at < len(text):
        size = 1 if pace == 0 else (size * 5 + 3) % (pace + 1) + 1
        pieces.append(text[at : at + size])
        at += size
    return pieces


def check_protocol(stream: bytes) -> None:
    """Every answer is whole and says of itself what it is."""
    at = 0
    while at < len(stream):
        found = MESSAGE.match(stream, at)
        if found is None:
            found = LINE.match(stream, at)
            assert found is not None, stream[at : at + 60]
            at = found.end()
            continue
        size = int(found.group(2) or found.group(4))
        at = found.end() + size + 2
        assert stream[at - 2 : at] == b"\r\n", stream[found.start() : at]
        assert 0 < int(found.group(3) or 1) <= max(size, 1)


def connect_target() -> Callable[[bytes], None]:
    from natsc.server.handshake import BadConnect, parse_connect, redact_connect

    def test(data: bytes) -> None:
        try:
            said = parse_connect(data)
        except BadConnect:
            said = {}
        for value in said.values():
            if isinstance(value, str):
                value.encode()  # what it says can be written down
        redact_connect(data).encode("utf-8", "surrogateescape")

    return test


def config_target() -> Callable[[bytes], None]:
    from natsc.config import ConfigError, process_config_file

    path = Path(tempfile.mkdtemp(prefix="natsc-fuzz-")) / "server.conf"

    def test(data: bytes) -> None:
        if b"include" in data:
            return  # would read what lies about
        path.write_bytes(data)
        try:
            process_config_file(str(path))
        except ConfigError as error:
            str(error).encode("utf-8", "surrogateescape")

    return test


TARGETS: dict[str, Callable[[], Callable[[bytes], None]]] = {
    "engine": EngineTarget,
    "connect": connect_target,
    "config": config_target,
}


# ---------------------------------------------------------------------------------------------------- running them


def load_counters(into: Path) -> None:
    """Let libFuzzer see the compiled modules; before the first of them is imported."""
    from atheris import native

    library = into / "libcounters.so"
    if not library.exists() or library.stat().st_mtime < COUNTERS.stat().st_mtime:
        subprocess.run([os.environ.get("CC", "cc"), "-O2", "-shared", "-fPIC", "-o", library, COUNTERS], check=True)
    counters = ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    found = next(Path(native.__file__).parent.glob("core_with_libfuzzer*.so"))
    counters.natsc_register(ctypes.c_void_p(ctypes.CDLL(str(found))._handle))


def run_fuzzer(target: str, arguments: list[str]) -> None:
    """In a process of its own, for libFuzzer doesn't return."""
    import atheris

    if target == "engine":
        load_counters(Path(os.environ["NATSC_FUZZ_BUILD"]))
        test = TARGETS[target]()
    else:
        with atheris.instrument_imports(include=["natsc.server.handshake", "natsc.config", "json"]):
            test = TARGETS[target]()
    atheris.Setup([sys.argv[0], *arguments], test)
    atheris.Fuzz()


def replay(target: str, paths: list[Path]) -> None:
    test = TARGETS[target]()
    for path in paths:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            test(file.read_bytes())


def quoted(word: bytes) -> str:
    return "".join(f"\\x{octet:02x}" for octet in word)


def child(build_dir: Path, *arguments: str) -> int:
    environment = {**os.environ, "PYTHONPATH": str(build_dir), "NATSC_FUZZ_BUILD": str(build_dir)}
    return subprocess.run(["nice", sys.executable, __file__, *arguments], env=environment, check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description="coverage-guided fuzzing", allow_abbrev=False)
    parser.add_argument("--target", choices=TARGETS, default="engine")
    parser.add_argument("--secs", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0, help="of libFuzzer; 0 = another one each time")
    parser.add_argument("--fresh", action="store_true", help="forget the corpus first")
    parser.add_argument("--replay", nargs="*", type=Path, help="only play these inputs, or directories of them")
    parser.add_argument("--run", action="store_true", help=argparse.SUPPRESS)
    args, rest = parser.parse_known_args()
    if args.run:
        run_fuzzer(args.target, rest)
        return 0
    if args.replay is not None:
        replay(args.target, args.replay)
        return 0
    corpus = CORPUS / args.target
    if args.fresh:
        shutil.rmtree(corpus, ignore_errors=True)
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[args.target]):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = corpus.parent / "words.dict"
    words.write_text("".join(f'"{quoted(word)}"\n' for word in WORDS))
    found = corpus.parent / f"{args.target}-"
    code = child(
        build("fuzzer"), "--run", "--target", args.target, f"-max_total_time={args.secs}", f"-seed={args.seed}",
        f"-dict={words}",
        f"-max_len={INPUT_MAX}", f"-artifact_prefix={found}", "-timeout=10", "-print_final_stats=1", "-reload=0",
        *rest, str(corpus),
    )  # fmt: skip
    if args.target == "engine":
        lines = build("lines")
        forget_coverage(lines)
        code = child(lines, "--target", "engine", "--replay", str(corpus)) or code
        print_coverage(line_coverage(lines, PARSER))
    return code


if __name__ == "__main__":
    sys.exit(main())
