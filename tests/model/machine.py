"""Random programs for JetStream, as hypothesis state machines that the servers and the model run step by step.

Compared compares natsc, nats-server and the model, or natsc alone with the model, and ends and kills the servers; Timed
has natsc alone with the model, and a clock that it moves. Each program has streams of its own on servers that stay. A
step is sent to all servers at once; then what they answered and delivered, and afterwards what they say about consumers
and streams, must be the same, and as the model has it.

What isn't the same from run to run (times) is left out. nats-server tells consumers of messages behind their PubAcks:
what it says about a consumer is asked again for some seconds. natsc has to be right at once.
"""

from __future__ import annotations

import base64
import copy
import json
import os
import re
import sys
import time
import traceback
from collections import Counter, defaultdict
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.conformance.talk import VARYING
from tests.jetstream.storemodel import matches
from tests.model.consumer import Consumer, Pull
from tests.model.draw import (
    FILTERS,
    NAMES,
    TOKENS,
    bodies,
    consumer_configs,
    header_sets,
    names,
    seqs,
    some_limits,
    stream_with_consumers,
    tokens,
    which_consumer,
)
from tests.model.peer import Event, Peer
from tests.model.stream import SECOND, Out, Stream, header_block, within

PATIENCE_S = float(os.environ.get("NATSC_MODEL_PATIENCE", "5"))  # for what must come
ANSWER_S = 10.0
VARY = VARYING | {"time", "server_id", "config", "cluster"}
TIMES = re.compile(rb"Nats-Time-Stamp: [^\r]*\r\n")

counts: Counter[str] = Counter()


class Difference(AssertionError):
    """Servers or model don't agree."""


def steady(value: Any) -> Any:
    """JSON without what differs from run to run."""
    if isinstance(value, dict):
        return {k: steady(v) for k, v in value.items() if k not in VARY}
    return [steady(one) for one in value] if isinstance(value, list) else value


def steady_event(event: Event) -> Event:
    if event[0] == "json":
        return ("json", steady(event[1]))
    if event[0] == "raw":
        return (*event[:2], TIMES.sub(b"", event[2]), event[3])
    return event


def steady_state(value: Any) -> Any:
    """What is said about a consumer or a stream."""
    value = steady(value)
    if value and value.get("delivered", {}).get("consumer_seq") == 0:
        # Before the first delivery nats-server tells, with memory storage, how far it has looked.
        del value["delivered"]["stream_seq"], value["ack_floor"]["stream_seq"]
    return value


def overlaps(filters: list[str], purged: str) -> bool:
    """Whether a part of these filters may be purged, and that isn't one of them whole."""
    if not purged or not filters:
        return False
    return not all(within(f, purged) for f in filters) and not any(within(purged, f) for f in filters)


def same(events: list[Event] | None, expected: list[Event] | None) -> bool:
    """Whether these are the events that the model has; None in one of them is anything."""
    if events is None or expected is None or len(events) != len(expected):
        return False
    return all(
        len(e) == len(x) and all(y is None or y == v for v, y in zip(e, x, strict=True))
        for e, x in zip(events, expected, strict=True)
    )


def has(whole: Any, part: Any) -> bool:
    """Whether everything in part is in whole."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(k in whole and has(whole[k], v) for k, v in part.items())
    return bool(whole == part)


def consumers_there(machine: Programs) -> bool:
    return bool(machine.model.consumers)


class Programs(RuleBasedStateMachine):
    """What a program does. peers: the servers, natsc first; set by a subclass. Steps are about the stream `model`."""

    peers: list[Peer]
    number = 0
    timed = False  # whether the clock is moved
    seen: ClassVar[list[str]] = []  # what ended programs, also where they don't show it a second time
    model: Stream

    def __init__(self) -> None:
        super().__init__()
        self.streams: list[Stream] = []
        self.out: Out = defaultdict(list)
        self.told: dict[str, Any] = {}  # what the servers have said, by operation
        for peer in self.peers:
            peer.got.clear()

    @property
    def alone(self) -> bool:
        """Whether natsc is: what nats-server leaves to chance need not be left out."""
        return len(self.peers) == 1

    @property
    def base(self) -> str:
        return self.model.base

    @property
    def config(self) -> dict[str, Any]:
        return self.model.config

    # Steps

    def fresh(self) -> int:
        Programs.number += 1
        return Programs.number

    def write(self, data: bytes) -> None:
        for peer in self.peers:
            peer.write(data)

    def ask(self, *requests: tuple[str, dict[str, str], bytes], expected: list[Any] | None = None) -> list[Any]:
        """Send requests at once; natsc's answers, which must be those of the others and have what is expected."""
        keys, data = [], b""
        for subject, headers, body in requests:
            keys.append(self.fresh())
            block = header_block(headers)
            sizes = f"{len(block)} {len(block) + len(body)}" if block else f"{len(body)}"
            head = f"{'HPUB' if block else 'PUB'} {subject} _R.{keys[-1]} {sizes}\r\n"
            data += head.encode() + block + body + b"\r\n"
        self.write(data)
        found = []
        for peer in self.peers:
            peer.wait({-key: 1 for key in keys}, ANSWER_S)
            found.append([[steady_event(e) for e in peer.got.pop(-key, [])] for key in keys])
        for i, request in enumerate(requests):
            answers = [events[i] for events in found]
            self.agree(request, answers)
            if expected is not None and not (answers[0] and has(answers[0][0][1], expected[i])):
                raise Difference(f"{request}:\n  the model has {expected[i]}\n  answered was {answers[0]}")
        self.raw_answer = found[0][0]
        return [events[0][1] if events else None for events in found[0]]

    def agree(self, what: Any, answers: list[Any]) -> None:
        for peer, answer in zip(self.peers[1:], answers[1:], strict=True):
            if answer != answers[0]:
                raise Difference(f"{what}:\n  natsc  {answers[0]}\n  {peer.name}  {answer}")

    def api(self, operation: str, body: Any = None, expected: Any = None) -> Any:
        data = b"" if body is None else json.dumps(body).encode()
        return self.ask((f"$JS.API.{operation}", {}, data), expected=None if expected is None else [expected])[0]

    def settle(self) -> None:
        """What was to be delivered came, and what the servers say about stream and consumers is as the model has it."""
        wanted = {key: len(events) for key, events in self.out.items()}
        for peer in self.peers:
            peer.wait(wanted, PATIENCE_S)
        self.compare_deliveries()
        self.compare_state()
        self.compare_deliveries()
        counts["steps"] += 1

    def compare_deliveries(self) -> None:
        out = {key: events for key, events in self.out.items() if events}
        for peer in self.peers:
            got = {key: events for key, events in peer.got.items() if events}
            wrong = [key for key in {*got, *out} if not same(got.get(key), out.get(key))]
            if wrong:
                lines = [f"  {key}: {got.get(key)} instead of {out.get(key)}" for key in wrong]
                raise Difference(f"{peer.name} delivered\n" + "\n".join(lines))
            peer.got.clear()
        self.out.clear()

    def compare_state(self) -> None:
        """Ask about what has changed."""
        now: dict[str, Any] = {}
        for stream in self.streams:
            now[f"STREAM.INFO.{stream.name}"] = {"state": stream.state()}
            for consumer in stream.consumers.values():
                now[f"CONSUMER.INFO.{stream.name}.{consumer.name}"] = consumer.info()
        changed = {operation: state for operation, state in now.items() if self.told.get(operation) != state}
        if changed:
            self.ask_state(changed)
        self.told = now

    def ask_state(self, wanted: dict[str, Any]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        answers: list[list[Any]] = [[] for _ in self.peers]
        behind = list(range(len(self.peers)))
        while behind:
            for i in behind:
                answers[i] = self.ask_one(self.peers[i], list(wanted))
                for answer in answers[i]:
                    self.leave_out_floor(answer)
            if not all(has(a, w) for a, w in zip(answers[0], wanted.values(), strict=True)):
                lines = []
                for i, (operation, predicted) in enumerate(wanted.items()):
                    if not has(answers[0][i], predicted):
                        lines.append(f"{operation}: the model has\n  {predicted}")
                        lines += [f"  {peer.name}: {a[i]}" for peer, a in zip(self.peers, answers, strict=True)]
                raise Difference("\n".join(lines))
            behind = [i for i in range(1, len(self.peers)) if answers[i] != answers[0]]
            if behind and time.monotonic() > deadline:
                for operation, *said in zip(wanted, *answers, strict=True):
                    self.agree(operation, said)

    def leave_out_floor(self, answer: Any) -> None:
        """Where pending messages were purged, nats-server's floor may be above others that are pending."""
        consumer = None
        for stream in self.streams:
            if stream.name == answer.get("stream_name"):
                consumer = stream.consumers.get(answer["name"])
        if consumer is not None and (consumer.floor_unknown or consumer.place_unknown):
            del answer["ack_floor"]
        if consumer is not None and consumer.place_unknown:
            answer["delivered"].pop("stream_seq", None)

    def ask_info(self, peer: Peer, operation: str) -> Any:
        key = self.fresh()
        peer.write(f"PUB $JS.API.{operation} _R.{key} 0\r\n\r\n".encode())
        peer.wait({-key: 1}, ANSWER_S)
        return peer.got.pop(-key, [("", {})])[0][1]

    def ask_one(self, peer: Peer, operations: list[str]) -> list[Any]:
        keys = [self.fresh() for _ in operations]
        requests = [f"PUB $JS.API.{o} _R.{k} 0\r\n\r\n" for o, k in zip(operations, keys, strict=True)]
        peer.write("".join(requests).encode())
        peer.wait({-key: 1 for key in keys}, ANSWER_S)
        return [steady_state(peer.got.pop(-key, [("", None)])[0][1]) for key in keys]

    # The stream

    @initialize(streams=st.lists(stream_with_consumers, min_size=1, max_size=2))
    def begin(self, streams: list[tuple[dict[str, Any], list[Any]]]) -> None:
        counts["programs"] += 1
        for config, consumers in streams:
            self.create_stream(config)
            for name, drawn in zip(NAMES, consumers, strict=False):
                self.create_consumer(name, drawn)

    def create_stream(self, config: dict[str, Any]) -> None:
        base = f"m{self.fresh():08}"
        config = self.as_time_goes({"name": base.upper(), "subjects": [f"{base}.>"], **config})
        if "subject_transform" in config:
            config["subject_transform"] = {"src": f"{base}.a.*", "dest": f"{base}.t.{{{{wildcard(1)}}}}"}
        made = self.create(config)
        if "error" in made:
            # Under another name: nats-server needs a moment after it has refused a stream.
            base = f"m{self.fresh():08}"
            made = self.create({"name": base.upper(), "subjects": [f"{base}.>"]})
        self.model = Stream(made, self.now(), base, self.out)
        self.streams.append(self.model)

    def as_time_goes(self, config: dict[str, Any]) -> dict[str, Any]:
        """Without a clock to move nothing is to happen by itself: seconds become hours."""
        config = dict(config)
        for name in ("max_age", "duplicate_window", "ack_wait"):
            if not self.timed and config.get(name):
                config[name] *= 3600
        if self.timed and "subjects" in config:
            config.setdefault("allow_msg_ttl", True)
        if not self.timed and "backoff" in config:
            config["backoff"] = [3600 * one for one in config["backoff"]]
        return config

    def now(self) -> int:
        return 0

    def create(self, config: dict[str, Any]) -> dict[str, Any]:
        """The configuration that the servers made of it, or their error."""
        made = [self.create_on(peer, config) for peer in self.peers]
        self.agree(("STREAM.CREATE", config), made)
        return made[0]

    def create_on(self, peer: Peer, config: dict[str, Any]) -> dict[str, Any]:
        key = self.fresh()
        body = json.dumps(config).encode()
        peer.write(f"PUB $JS.API.STREAM.CREATE.{config['name']} _R.{key} {len(body)}\r\n".encode() + body + b"\r\n")
        peer.wait({-key: 1}, ANSWER_S)
        answer = peer.got.pop(-key)[0][1]
        if has(answer, {"error": {"err_code": 10049}}):
            counts["nats-server couldn't create a store"] += 1
            time.sleep(0.1)
            return self.create_on(peer, config)
        if "error" not in answer:
            answer = answer["config"]
        return steady(answer) if "error" in answer else answer

    @rule()
    def elsewhere(self) -> None:
        """What comes is about the other stream."""
        self.model = self.streams[(self.streams.index(self.model) + 1) % len(self.streams)]

    def subject(self, tokens: str) -> str:
        return f"{self.base}.{tokens}"

    def stored_as(self, tokens: str) -> str:
        words = tokens.split(".")
        if self.config.get("subject_transform") and len(words) == 2 and words[0] == "a":
            return f"{self.base}.t.{words[1]}"
        return f"{self.base}.{tokens}"

    @rule(changes=some_limits)
    def update_stream(self, changes: dict[str, Any]) -> None:
        if not self.alone and any(c.stalled for c in self.model.consumers.values()):
            return  # it goes on when the first of its messages goes, or when all have gone: by chance
        if not self.alone and any(seq not in self.model.messages for seq, _ in self.model.ids.values()):
            changes.pop("duplicate_window", None)  # nats-server forgets ids of what it hasn't stored when it changes
        changes.pop("first_seq", None)
        changes.pop("subject_transform", None)
        wanted = {k: v for k, v in self.config.items() if k not in ("max_msgs", "max_bytes", "max_msgs_per_subject")}
        wanted = {**wanted, **self.as_time_goes(changes), "name": self.model.name}
        key = self.fresh()
        body = json.dumps(wanted).encode()
        said = []
        for peer in self.peers:
            head = f"PUB $JS.API.STREAM.UPDATE.{self.model.name} _R.{key} {len(body)}\r\n"
            peer.write(head.encode() + body + b"\r\n")
            peer.wait({-key: 1}, ANSWER_S)
            answer = peer.got.pop(-key)[0][1]
            said.append({"config": answer.get("config"), "error": answer.get("error")})
        self.agree(("update", wanted), said)
        if said[0]["config"]:
            self.model.config = said[0]["config"]
            self.model.enforce()
            self.model.cut = self.model.cut or self.model.limited
            self.model.advance(self.model.now)
            self.model.deliver()
        self.settle()

    def go_on(self) -> None:
        """The servers have been started again; before that nobody was connected any more."""
        self.told.clear()
        self.out.clear()
        for stream in list(self.streams):
            if stream.config["storage"] == "memory":
                self.make_again(stream)
            else:
                stream.restarted()
        self.settle()

    def make_again(self, stream: Stream) -> None:
        """A stream in memory has gone with the server."""
        self.api(f"STREAM.INFO.{stream.name}", None, {"error": {"err_code": 10059}})
        config = {name: value for name, value in stream.config.items() if name != "metadata"}
        again = Stream(self.create(config), self.now(), stream.base, self.out)
        self.streams[self.streams.index(stream)] = again
        if self.model is stream:
            self.model = again

    # Publishing

    def messages(self, *messages: tuple[str, dict[str, Any], bytes]) -> None:
        requests, expected = [], []
        for words, headers, body in messages:
            given = {name: self.header(name, value, words) for name, value in headers.items()}
            requests.append((self.subject(words), given, body))
            expected.append(self.model.publish(self.stored_as(words), given, body))
        self.ask(*requests, expected=expected)
        self.settle()

    def header(self, name: str, value: Any, words: str) -> str:
        if name == "Nats-Expected-Last-Sequence":
            return str(max(self.model.last_seq - value, 0))
        if name == "Nats-Expected-Last-Subject-Sequence":
            return str(max(self.model.last_on(self.stored_as(words)) - value, 0))
        if name == "Nats-Expected-Last-Subject-Sequence-Subject":
            return self.subject(value)
        if name == "Nats-Expected-Stream":
            return self.model.name if value == "this" else value
        if name == "Nats-TTL" and value.isdigit() and not self.timed:
            return f"{3600 * int(value)}"
        return str(value)

    @rule(words=tokens, body=bodies)
    def publish(self, words: str, body: bytes) -> None:
        self.messages((words, {}, body))

    @rule(words=tokens, headers=header_sets, body=bodies)
    def publish_with_headers(self, words: str, headers: dict[str, Any], body: bytes) -> None:
        if "Nats-Rollup" in headers and not self.alone and self.rollup_guessed(words, headers, body):
            return
        self.messages((words, headers, body))

    def rollup_guessed(self, words: str, headers: dict[str, Any], body: bytes) -> bool:
        """A rollup is a purge, with what that leaves to chance."""
        given = {name: self.header(name, value, words) for name, value in headers.items()}
        subject = self.stored_as(words)
        filter = subject if given["Nats-Rollup"] == "sub" else ""
        if any(c.stalled or c.queue or overlaps(c.filters, filter) for c in self.model.consumers.values()):
            return True
        before, after = copy.deepcopy(self.model), copy.deepcopy(self.model)
        after.publish(subject, given, body)
        before.publish(subject, {k: v for k, v in given.items() if k != "Nats-Rollup"}, body)
        return self.guessed(before, after, filter, len(before.messages) - len(after.messages))

    @rule(words=st.lists(tokens, min_size=2, max_size=5), body=bodies)
    def publish_several(self, words: list[str], body: bytes) -> None:
        # To somebody who waits they come one by one: what else is there then is chance.
        if any(c.active or c.waiting for c in self.model.consumers.values()):
            for one in words:
                self.messages((one, {}, body))
        else:
            self.messages(*((one, {}, body) for one in words))

    # Removing

    @rule(seq=seqs, erase=st.booleans())
    def delete_message(self, seq: int, erase: bool) -> None:
        seq = self.somewhere(seq)
        if not self.alone and any(c.skip for c in self.model.consumers.values()):
            return  # nats-server counts it twice among what isn't pending any more
        self.api(f"STREAM.MSG.DELETE.{self.model.name}", {"seq": seq, "no_erase": not erase}, self.model.delete(seq))
        self.settle()

    def somewhere(self, seq: int) -> int:
        """Sequences of a stream that may begin anywhere."""
        return max(self.model.first_seq + seq - 2, 0)

    @rule(
        filter=st.sampled_from(["", "", *FILTERS]),
        seq=st.sampled_from([0, 0, 3, 4, 5, 6, 9]),
        keep=st.sampled_from([0, 0, 1, 2]),
    )
    def purge(self, filter: str, seq: int, keep: int) -> None:
        filter = self.subject(filter) if filter else ""
        consumers = self.model.consumers.values()
        forgets = any(c.stalled or c.queue or (c.redelivered and not c.pending) for c in consumers)
        if not self.alone and (forgets or any(overlaps(c.filters, filter) for c in consumers)):
            return  # nats-server goes on at max_ack_pending only when something else happens, and forgets NAKs
        asked: dict[str, Any] = {}
        if filter:
            asked["filter"] = filter
        if seq:
            asked["seq"] = seq = self.somewhere(seq)
        elif keep:
            asked["keep"] = keep
        after = copy.deepcopy(self.model)
        purged = after.purge(filter, seq, 0 if seq else keep).get("purged", 0)
        if not self.model.last_seq and not self.alone:
            return  # its first sequence is 1 from here, and after a kill 0 again
        if seq and not after.messages and after.last_seq == self.model.last_seq and not self.alone:
            return  # its file storage says then that sequences are deleted that it hasn't any more
        if not self.alone and self.guessed(self.model, after, filter, purged):
            return
        expected = self.model.purge(filter, seq, 0 if seq else keep)
        for consumer in consumers:
            consumer.place_unknown = True
        self.api(f"STREAM.PURGE.{self.model.name}", asked or None, expected)
        self.settle()

    def guessed(self, before: Stream, after: Stream, filter: str, purged: int) -> bool:
        """Whether nats-server doesn't know after a purge what is pending: it only knows how many messages can be."""
        for name, consumer in after.consumers.items():
            old = before.consumers[name]
            most = after.last_seq + 1 - consumer.next_seq
            if consumer.num_pending() != max(min(old.num_pending(), len(after.messages), most), 0):
                return True
            if consumer.counts_subjects():
                return True
            gone = [s for s in old.pending if s not in after.messages]
            if purged == 1 and gone and consumer.policy == "all" and min(old.pending) < gone[0]:
                return True  # what goes alone counts as acknowledged, and so does what comes before it
            if filter and gone and not (consumer.filters and all(within(f, filter) for f in consumer.filters)):
                return True  # above its floor nats-server may keep it as pending
        return False

    # Reading

    @rule(
        seq=seqs,
        filter=st.sampled_from([*TOKENS, *FILTERS]),
        how=st.sampled_from(["seq", "last", "next"]),
        direct=st.booleans(),
    )
    def get(self, seq: int, filter: str, how: str, direct: bool) -> None:
        seq, pattern, model = self.somewhere(seq), self.subject(filter), self.model
        if how == "seq":
            asked: dict[str, Any] = {"seq": seq}
            found = seq if seq in model.messages else 0
        elif how == "last":
            asked = {"last_by_subj": pattern}
            found = model.last_on(pattern)
        else:
            asked = {"next_by_subj": pattern, "seq": seq}
            found = min((s for s in model.matching(pattern) if s >= seq), default=0)
        if direct and not model.get("allow_direct"):
            return
        operation = f"DIRECT.GET.{model.name}" if direct else f"STREAM.MSG.GET.{model.name}"
        answer = self.api(operation, asked)
        message = model.messages.get(found)
        if direct:
            self.compare_direct(asked, message)
        elif message is None:
            if not has(answer, {"error": {"code": 404}}) and asked.get("seq") != 0:
                raise Difference(f"{asked}: {answer} instead of no message")
        elif asked.get("seq") != 0 or how == "next":
            wanted = {"seq": message.seq, "subject": message.subject}
            if message.headers:
                wanted["hdrs"] = base64.b64encode(header_block(message.headers)).decode()
            if message.body:
                wanted["data"] = base64.b64encode(message.body).decode()
            if not has(answer, {"message": wanted}):
                raise Difference(f"{asked}: {answer} instead of {wanted}")

    def compare_direct(self, asked: dict[str, Any], message: Any) -> None:
        _, _, headers, body = self.raw_answer[0]
        if message is None:
            good = headers.startswith(b"NATS/1.0 40")
        else:
            good = body == message.body and b"Nats-Sequence: %d\r\n" % message.seq in headers
        if not good:
            raise Difference(f"direct {asked}: {headers!r} {body!r} instead of {message}")

    @rule(filter=st.sampled_from(FILTERS))
    def info(self, filter: str) -> None:
        pattern = self.subject(filter)
        found = self.model.matching(pattern)
        subjects = Counter(self.model.messages[seq].subject for seq in found)
        missing = [s for s in range(self.model.first_seq, self.model.last_seq + 1) if s not in self.model.messages]
        state: dict[str, Any] = {"subjects": subjects} if subjects else {}
        if missing and self.model.messages:
            state["deleted"] = missing
        # nats-server reports sequence 0 of an empty file as deleted.
        asked = {"subjects_filter": pattern, "deleted_details": self.model.last_seq > 0}
        self.api(f"STREAM.INFO.{self.model.name}", asked, {"state": state})

    # Consumers

    def consumer_config(self, name: str, drawn: tuple[dict[str, Any], list[str], int]) -> dict[str, Any]:
        chosen, filters, start = drawn
        config = {"durable_name": name, "name": name, "ack_policy": "explicit", "ack_wait": 3_200_000_000, **chosen}
        config = self.as_time_goes(config)
        several = config.pop("filter", 0)
        if several == 1:
            config["filter_subject"] = self.subject(filters[0])
        elif several:
            if any(all(matches(f.encode(), t.encode()) for f in filters) for t in TOKENS):
                filters = filters[:1]  # what is in two of them nats-server counts twice
            config["filter_subjects"] = [self.subject(one) for one in filters]
        if "deliver_subject" in config:
            config["deliver_subject"] = f"_P.{self.base}.{name}"
        if config.get("deliver_policy") == "by_start_sequence":
            # nats-server counts what comes before the start as pending, if that lies in the future.
            config["opt_start_seq"] = 1 + start % (self.model.last_seq + 1)
        if config.get("deliver_policy") == "by_start_time":
            if self.timed:
                config["opt_start_time"] = self.time_of(self.now() - start * 370_000_000 + 500)
            else:
                del config["deliver_policy"]  # when a message came is for the servers to say
        return config

    def time_of(self, now: int) -> str:
        """The servers' wall clock, where the program has this time."""
        raise NotImplementedError

    def make_consumer(self, config: dict[str, Any], action: str = "") -> dict[str, Any] | None:
        """The configuration that the servers made of it; None where they refuse it."""
        key = self.fresh()
        name = self.model.name
        body = json.dumps({"stream_name": name, "config": config, "action": action}).encode()
        said = []
        head = f"PUB $JS.API.CONSUMER.CREATE.{name}.{config['name']} _R.{key} {len(body)}\r\n"
        self.write(head.encode() + body + b"\r\n")
        for peer in self.peers:
            peer.wait({-key: 1}, ANSWER_S)
            answer = peer.got.pop(-key, [("", {})])[0][1]
            if action and "error" not in answer:  # what nats-server answers first after a start is how it was before
                answer = self.ask_info(peer, f"CONSUMER.INFO.{name}.{config['name']}")
            said.append({"config": answer.get("config"), "error": answer.get("error")})
        self.agree(("consumer", config), said)
        made: dict[str, Any] | None = said[0]["config"]
        return made

    @rule(name=names, drawn=consumer_configs)
    def create_consumer(self, name: str, drawn: tuple[dict[str, Any], list[str], int]) -> None:
        if name in self.model.consumers:
            return
        made = self.make_consumer(self.consumer_config(name, drawn))
        if made:
            key = self.fresh() if made.get("deliver_subject") else 0
            consumer = Consumer(self.model, made, key)
            if self.timed:
                consumer.start_time = self.now() - drawn[2] * 370_000_000 + 500
            self.model.add(consumer)
        self.settle()

    @precondition(consumers_there)
    @rule(one=which_consumer, drawn=consumer_configs)
    def update_consumer(self, one: int, drawn: tuple[dict[str, Any], list[str], int]) -> None:
        consumer = self.consumer(one)
        wanted = self.consumer_config(consumer.name, drawn)
        fixed = ("deliver_policy", "ack_policy", "opt_start_seq", "opt_start_time", "deliver_subject")
        wanted = {k: v for k, v in wanted.items() if k not in fixed}
        wanted |= {k: v for k, v in consumer.config.items() if k in fixed}
        last = consumer.config["deliver_policy"] == "last_per_subject"
        if consumer.looked or (last and not self.alone):
            # How far it has looked isn't known; and nats-server waits for what it doesn't want any more.
            wanted = {k: v for k, v in wanted.items() if not k.startswith("filter")}
        filtered = any(k.startswith("filter") for k in wanted)
        if consumer.filters and not filtered and (consumer.looked or not self.alone):
            wanted["filter_subjects"] = consumer.filters  # nats-server doesn't tell it of new messages afterwards
        made = self.make_consumer(wanted, "update")
        if made:
            consumer.configure(made)
            consumer.place_unknown = True
            self.model.advance(self.model.now)
            self.model.drop_unneeded()
            self.model.deliver()
        self.settle()

    @precondition(consumers_there)
    @rule(one=which_consumer)
    def delete_consumer(self, one: int) -> None:
        consumer = self.consumer(one)
        name = consumer.name
        self.model.delete_consumer(name)
        self.api(f"CONSUMER.DELETE.{self.model.name}.{name}", None, {"success": True})
        self.told.pop(f"CONSUMER.INFO.{self.model.name}.{name}", None)
        if consumer.active:
            self.write(f"UNSUB {consumer.push_key}\r\n".encode())
        self.settle()

    @precondition(consumers_there)
    @rule(
        one=which_consumer,
        batch=st.integers(1, 5),
        max_bytes=st.sampled_from([0, 0, 0, 100, 300]),
        no_wait=st.booleans(),
        expires=st.sampled_from([0, 0, 2.6, 8.4]),
    )
    def pull(self, one: int, batch: int, max_bytes: int, no_wait: bool, expires: float) -> None:
        consumer = self.consumer(one)
        key = self.fresh()
        asked: dict[str, Any] = {"batch": batch}
        if max_bytes:
            asked["max_bytes"] = max_bytes
        if no_wait:
            asked["no_wait"] = True
        lasts = int(expires * SECOND) * (1 if self.timed else 3600)
        if lasts:
            asked["expires"] = lasts
        body = json.dumps(asked).encode()
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self.model.name}.{consumer.name}"
        self.write(f"SUB _I.{key} {key}\r\nPUB {subject} _I.{key} {len(body)}\r\n".encode() + body + b"\r\n")
        if consumer.push_key:
            consumer.status(key, b"409 Consumer is push based")
        else:
            consumer.pull(Pull(key, batch, max_bytes, no_wait, self.model.now + lasts if lasts else 0))
            self.model.deliver()
        self.settle()

    @precondition(consumers_there)
    @rule(one=which_consumer)
    def give_up_waiting(self, one: int) -> None:
        """A client leaves that waits for messages."""
        consumer = self.consumer(one)
        if consumer.waiting:
            key = consumer.waiting[0].key
            self.write(f"UNSUB {key}\r\n".encode())
            for peer in self.peers:
                peer.fence()
            self.model.silent.add(key)
            consumer.waiting_now()
            self.settle()

    @precondition(consumers_there)
    @rule(one=which_consumer)
    def listen(self, one: int) -> None:
        """A client comes for what is pushed, or leaves."""
        consumer = self.consumer(one)
        if not consumer.push_key:
            return
        consumer.active = not consumer.active
        if consumer.active:
            consumer.push_key = self.fresh()
            self.write(f"SUB {consumer.config['deliver_subject']} {consumer.push_key}\r\n".encode())
        else:
            self.write(f"UNSUB {consumer.push_key}\r\n".encode())
        for peer in self.peers:
            peer.fence()
        self.model.deliver()
        self.settle()

    @precondition(consumers_there)
    @rule(
        one=which_consumer,
        which=st.integers(0, 5),
        how=st.sampled_from(["", "", "+ACK", "-NAK", "-NAK", "later", "+TERM", "+WPI"]),
        confirmed=st.booleans(),
    )
    def acknowledge(self, one: int, which: int, how: str, confirmed: bool) -> None:
        consumer = self.consumer(one)
        if not consumer.delivered:
            return
        times, sseq, dseq = consumer.delivered[-1 - which % len(consumer.delivered)]
        subject = f"$JS.ACK.{self.model.name}.{consumer.name}.{times}.{sseq}.{dseq}.1700000000000000000.0"
        if consumer.policy == "none":
            return
        answered = True
        if how == "later":
            # Where no time passes, by more than any ack_wait, so that it stays so where that is changed.
            how = '-NAK {"delay": 4300000000}' if self.timed else '-NAK {"delay": 1440000000000000}'
            consumer.delay(sseq, int(how[15:-1]))
        elif how == "-NAK":
            consumer.nak(sseq)
        elif how != "+WPI":
            answered = consumer.ack(sseq, dseq)
        elif sseq in consumer.pending:
            consumer.set_due(sseq)
        self.model.deliver()
        if (confirmed or how[:4] in ("-NAK", "+WPI")) and answered:
            self.ask((subject, {}, how.encode()))
        else:
            self.write(f"PUB {subject} {len(how)}\r\n{how}\r\n".encode())
        self.settle()

    @precondition(consumers_there)
    @rule(
        one=which_consumer,
        words=st.lists(tokens, min_size=1, max_size=4),
        body=bodies,
        batch=st.integers(1, 5),
        how=st.sampled_from(["", "", "+ACK", "-NAK", "later", "+WPI"]),
        which=st.integers(0, 3),
        seconds=st.sampled_from([0, 0, 1.5, 4.0]),
    )
    def exchange(
        self, one: int, words: list[str], body: bytes, batch: int, how: str, which: int, seconds: float
    ) -> None:
        """What most clients do, in one step: chance alone seldom brings these together."""
        self.publish_several(words, body)
        consumer = self.consumer(one)
        if not consumer.push_key:
            self.pull(one, batch, 0, False, 2.6)
        elif not consumer.active:
            self.listen(one)
        if how:
            self.acknowledge(one, which, how, True)
        if seconds:
            self.time_passes(seconds)

    def time_passes(self, seconds: float) -> None:
        """Where there is a clock to move."""

    def consumer(self, one: int) -> Consumer:
        consumers = list(self.model.consumers.values())
        return consumers[one % len(consumers)]

    # The end

    def teardown(self) -> None:
        if sys.exc_info()[0] is not None:
            self.seen.append(traceback.format_exc(limit=-3))
        for peer in self.peers:
            for stream in self.streams:
                key = self.fresh()
                peer.write(f"PUB $JS.API.STREAM.DELETE.{stream.name} _R.{key} 0\r\n\r\n".encode())
                peer.wait({-key: 1}, ANSWER_S)
            peer.write(b"".join(b"UNSUB %d\r\n" % key for key in self.subscriptions()))
            peer.fence()
            peer.got.clear()

    def subscriptions(self) -> set[int]:
        consumers = [c for stream in self.streams for c in stream.consumers.values()]
        return {k for c in consumers for k in (c.push_key, *(w.key for w in c.waiting)) if k}
