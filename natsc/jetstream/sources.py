"""Mirrors and sources: how a stream gets a consumer of the streams that it reads from, and what it does without one.

Everything goes through the API, as a client's requests do, so an origin may be in this account, in another one, in
another domain, or on another server. The path of a message is in natsc/jetstream/intake.pyx, which Origin extends.

A mirror goes on behind its own last sequence. Where a source stands is kept beside the messages (see Sourcing.keep),
and can be found again from the Nats-Stream-Source header of the last message that came from it.
"""

from __future__ import annotations

import json

from natsc.config.gotext import quote
from natsc.config.transform import Transform
from natsc.jetstream import api_errors as errors
from natsc.jetstream.api_errors import ApiError
from natsc.jetstream.api_request import header, header_block
from natsc.jetstream.consumer_config import (
    ACK_FLOW_CONTROL,
    DELIVER_BY_START_SEQUENCE,
    DELIVER_BY_START_TIME,
    ConsumerConfig,
    CreateConsumerRequest,
)
from natsc.jetstream.intake import Intake, last_source_header
from natsc.jetstream.layout import with_checksum, without_checksum
from natsc.jetstream.names import raw, short_hash, text
from natsc.jetstream.schema import encode
from natsc.jetstream.stream_config import FILE, SourceInfo, StreamConfig, StreamSource
from natsc.jetstream.versioning import REQUIRED_LEVEL_HEADER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc._core import Client
    from natsc._core import Request as Received
    from natsc.jetstream.streams import ManagedStream

_SECOND = 1_000_000_000
HEARTBEAT_NS = _SECOND
SILENCE_NS = 10 * _SECOND  # of a consumer that is lost
BETWEEN_NS = 2 * _SECOND  # from one request for a consumer to the next
BACKOFF_NS, BACKOFF_MAX_NS = 10 * _SECOND, 120 * _SECOND
CREATE_WAIT_NS, RESET_WAIT_NS = 30 * _SECOND, 5 * _SECOND
ACK_WAIT_NS = 22 * 3600 * _SECOND
CAUGHT_UP = 10  # messages behind its origin that a mirror may be to answer for it
IDENTITY_HEADER = "Nats-Stream-Identity"
KEPT = b"source/"
# Levels of the API that a request asks for: streams that were made anew are noticed, consumers for sourcing.
_LEVEL_IDENTITY, _LEVEL_SOURCING = 5, 4
_WAITING, _ASKED, _READING, _ENDED = "waiting", "asked", "reading", "ended"
_QUIET = ("maximum messages exceeded", "maximum bytes exceeded", "maximum messages per subject exceeded")


def index_name(source: StreamSource) -> str:
    """What tells a source from the stream's others: origin, filters, destinations. Headers and hashes have it."""
    name = source.name
    if source.external is not None:
        name += f":{short_hash(source.external.api)}"
    if source.consumer is not None:
        name += f":C={short_hash(source.consumer.name)}"
    transforms = source.subject_transforms
    filters = "\f".join([one.src or ">" for one in transforms] or [source.filter_subject or ">"])
    dests = "\f".join([one.dest or ">" for one in transforms] or [">"])
    return f"{name} {filters} {dests}"


def read_source_header(value: str) -> tuple[str, str, int, str]:
    """(stream, index name, sequence, identity) of a Nats-Stream-Source; what it doesn't say is "" or 0.

    Before 2.10 it was the subject for the acknowledgement, or the stream and the sequence.
    """
    if value.startswith("$JS.ACK."):
        tokens = value.split(".")
        at = 2 if len(tokens) == 9 else 4
        return (tokens[at], "", _number(tokens[at + 3]), "") if len(tokens) in (9, 11, 12) else ("", "", 0, "")
    fields = value.split(" ")
    if len(fields) < 2 or len(fields) == 3:
        return "", "", 0, ""
    name = f"{fields[0]} {fields[2]} {fields[3]}" if len(fields) > 3 else ""
    return fields[0], name, _number(fields[1]), fields[5] if len(fields) > 5 else ""


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else 0


class Origin(Intake):
    """One mirror or source: what is read, how it is asked for, how it goes."""

    def __init__(self, stream: ManagedStream, source: StreamSource, is_mirror: bool) -> None:
        self.owner = stream.owner
        self.sink = stream
        self.source = source
        self.name = index_name(source)
        self.error: dict[str, Any] | None = None
        self.fails = 0
        self.recreated = False
        self.behind = 0  # messages that its consumer began with
        self._asked_ns = 0
        self._state = _WAITING
        self._level = 0
        self._config = ConsumerConfig()
        self._reply = b""
        self._warned = ""
        self._inbox: Client | None = None
        self._transforms = [Transform(one.src, one.dest) for one in source.subject_transforms if one.dest]
        front, filters, dests = self.name.split(" ")
        self.set_up(is_mirror, raw(f"{front} "), raw(f" {filters} {dests} "), bool(self._transforms))

    def transform(self, subject: bytes) -> bytes:
        for one in self._transforms:
            changed = one.apply(subject)
            if changed is not None:
                return changed
        return subject

    # Life

    @property
    def reading(self) -> bool:
        return self._state == _READING

    def start(self) -> None:
        """Asks for a consumer, at the end of the turn, and goes on from there by itself."""
        self._state = _WAITING
        self.fails = 0
        self.soon()

    def end(self) -> None:
        self._state = _ENDED
        self.wake_at(0)
        self.cancel()
        self._close_inbox()

    def on_time(self) -> None:
        if self._state == _WAITING:
            self._ask()
        elif self._state == _ASKED:
            self._failed(None)
            if self.source.consumer is not None:
                self.probe(raw(self.source.consumer.deliver_subject))
        elif self._state == _READING:
            if self.now_ns - self.last_ns > SILENCE_NS:
                self._retry()
            else:
                self.wake_at(self.now_ns + SILENCE_NS)

    def on_broken(self, refused: int, values: dict[str, object]) -> None:
        if refused:
            error = ApiError(refused, **values)
            if error.description not in _QUIET and refused != errors.STREAM_TOO_MANY_REQUESTS:
                what = "mirror message" if self.is_mirror else f"source {quote(self.name)}"
                where = f"'{self.owner.account.name}' > '{self.sink.name}'"
                self._warn(f"Error processing inbound {what} for {where}: {error.description}")
        self._retry()

    def on_probe(self) -> None:
        # The consumer that didn't answer is alive: no need to wait longer.
        self.fails = 0
        self._retry()

    def _retry(self) -> None:
        """Asks again: not too soon after the last time, and later with each time that it fails."""
        self.cancel()
        self._close_inbox()
        self._state = _WAITING
        due = max(self.now_ns, self._asked_ns + BETWEEN_NS if self._asked_ns else 0)
        self.wake_at(due + min(self.fails * BACKOFF_NS, BACKOFF_MAX_NS))

    def _failed(self, error: dict[str, Any] | None) -> None:
        self.error = error
        self.fails += 1
        self._retry()

    # The consumer

    def _ask(self) -> None:
        self.cancel()
        if self.is_mirror:
            self.sseq = self.sink.store.last_seq
        self._asked_ns = self.now_ns
        self.error = None
        self._state = _ASKED
        self._level = _LEVEL_SOURCING if self.is_mirror else _LEVEL_IDENTITY
        self._config = self._consumer()
        self.wake_at(self.now_ns + (RESET_WAIT_NS if self.source.consumer else CREATE_WAIT_NS))
        self._send()

    def _consumer(self) -> ConsumerConfig:
        """The consumer that is needed now."""
        source = self.source
        kind, letter = ("mirror", "M") if self.is_mirror else ("src", "S")
        prefix = f"$JS.{letter}"
        if source.external is not None and source.external.deliver:
            prefix = f"{source.external.deliver}.{letter}"
        config = ConsumerConfig()
        config.name = self._consumer_name()
        config.deliver_subject = f"{prefix}.{self.owner.consumer_name()}".replace("..", ".")
        config.ack_policy = "none"
        config.ack_wait = ACK_WAIT_NS
        config.max_deliver = 1
        config.idle_heartbeat = HEARTBEAT_NS
        config.inactive_threshold = SILENCE_NS
        config.flow_control = config.direct = config.sourcing = True
        config.metadata = {f"_nats.{kind}.stream": self.sink.name, f"_nats.{kind}.acc": self.owner.account.name}
        if self.owner.domain:
            config.metadata[f"_nats.{kind}.domain"] = self.owner.domain
        filters = [one.src for one in source.subject_transforms]
        config.filter_subject = source.filter_subject or (filters[0] if len(filters) == 1 else "")
        config.filter_subjects = filters if len(filters) > 1 else []
        if self.is_mirror:
            self._start_of_mirror(config)
        else:
            self._start_of_source(config)
        return config

    def _start_of_mirror(self, config: ConsumerConfig) -> None:
        state = self.sink.state()
        if state.messages == 0 and state.first_seq == 0:
            _start_as_configured(config, self.source)
        else:
            config.deliver_policy, config.opt_start_seq = DELIVER_BY_START_SEQUENCE, state.last_seq + 1

    def _start_of_source(self, config: ConsumerConfig) -> None:
        if self.sseq > 0:
            config.deliver_policy, config.opt_start_seq = DELIVER_BY_START_SEQUENCE, self.sseq + 1
            return
        _start_as_configured(config, self.source)
        if config.opt_start_seq:
            return
        state = self.sink.state()
        last = state.last_ts
        # What this stream had before, it isn't to get again.
        begun = config.opt_start_time
        if not last.is_zero and (
            begun.ns < last.ns if begun is not None else state.first_seq > 1 and not self.recreated
        ):
            config.deliver_policy, config.opt_start_time = DELIVER_BY_START_TIME, last

    def _send(self) -> None:
        """Sends the request; the answer comes to _on_answer."""
        self._close_inbox()
        self._reply = raw(f"$JSC.R.{self.owner.consumer_name()}")
        self._inbox = self.engine.subscribe(self.owner.account, self._reply, self._on_answer)
        members: dict[str, object] = {REQUIRED_LEVEL_HEADER: self._level} if self._level else {}
        if self._level == _LEVEL_IDENTITY:
            members[IDENTITY_HEADER] = self.identity
        name, durable = self.source.name, self.source.consumer
        if durable is not None:
            subject, payload = f"$JS.API.CONSUMER.RESET.{name}.{durable.name}", b""
        else:
            subject = f"$JS.API.CONSUMER.CREATE.{name}"
            if self._config.filter_subject:
                subject += f".{self._config.name}.{self._config.filter_subject}"
            request = CreateConsumerRequest()
            request.stream_name, request.config = name, self._config
            payload = encode(request.as_json())
        self.engine.publish(
            self.owner.account,
            raw(self._at_origin(subject)),
            payload,
            reply=self._reply,
            headers=header_block(members) if members else None,
        )

    def _at_origin(self, subject: str) -> str:
        """An API subject, under the prefix that the origin is reached by."""
        external = self.source.external
        if external is None:
            return subject
        return subject.replace("$JS.API", external.api, 1).replace("..", ".")

    def _close_inbox(self) -> None:
        if self._inbox is not None:
            self.engine.unsubscribe(self._inbox)
            self._inbox = None
            self._reply = b""

    def _on_answer(self, received: Received) -> None:
        if received.subject != self._reply:
            return  # to an earlier request
        self._close_inbox()
        found = _read_answer(received.payload)
        if isinstance(found, _Made):
            self._read(found, header(received.headers or b"", IDENTITY_HEADER) or "")
            return
        code = found.get("err_code") if found is not None else None
        if code == errors.CONSUMER_STREAM_IDENTITY_MISMATCH and not self.is_mirror:
            # Another stream has that name now: from its beginning.
            self.sseq, self.identity, self.recreated = 0, "", True
            self._retry()
        elif code in (errors.REQUIRED_API_LEVEL, errors.INVALID_JSON) and self._level and not self.source.consumer:
            self._ask_for_less()
        else:
            error = found or self._setup_failed("invalid consumer create response")
            what = "mirror consumer" if self.is_mirror else f"source consumer {self.source.name}"
            where = "" if self.is_mirror else f"stream {self.sink.name} "
            told = f"{error.get('description')} ({error.get('err_code')})"
            self._warn(f"JetStream error response for {where}create {what}: {told}")
            self._failed(error)

    def _warn(self, text: str) -> None:
        """Logs a warning, but not the same one again and again."""
        if text != self._warned:
            self._warned = text
            self.owner.warn(text)

    def _ask_for_less(self) -> None:
        """The origin's server is an older one."""
        self._level = _LEVEL_SOURCING if self._level > _LEVEL_SOURCING else 0
        if not self._level:
            self._config.sourcing = False
            self._config.name += f"_{self.owner.consumer_name()}"
        self._send()

    def _setup_failed(self, why: str) -> dict[str, Any]:
        number = errors.MIRROR_CONSUMER_SETUP_FAILED if self.is_mirror else errors.SOURCE_CONSUMER_SETUP_FAILED
        return ApiError(number, err=why).as_json()

    def _read(self, made: _Made, identity: str) -> None:
        """There is a consumer: reads what it delivers."""
        durable = self.source.consumer
        if durable is not None and made.ack_policy != ACK_FLOW_CONTROL:
            number = (
                errors.MIRROR_CONSUMER_REQUIRES_ACK_FC if self.is_mirror else errors.SOURCE_CONSUMER_REQUIRES_ACK_FC
            )
            self._failed(ApiError(number).as_json())
            return
        sseq = self.sseq
        if self.is_mirror:
            sseq = self._skip_to(made.delivered)
        else:
            if self.recreated or (identity and self.identity and identity != self.identity):
                self.owner.warn(
                    f"JetStream source stream {quote(self.source.name)} for stream "
                    f"'{self.owner.account.name} > {self.sink.name}' was recreated, resetting source state"
                )
                sseq = 0
            self.identity, self.recreated = identity, False
        subject = made.deliver_subject if durable is None else durable.deliver_subject
        try:
            self.read(raw(subject), raw(made.name), max(sseq, made.delivered))
        except ValueError as error:
            self._failed(self._setup_failed(str(error)))
            return
        self.fails, self._warned = 0, ""
        self._state = _READING
        self.wake_at(self.now_ns + SILENCE_NS)
        self.behind = made.pending
        self.sourcing.answer_direct()

    def _skip_to(self, delivered: int) -> int:
        """A mirror begins behind `delivered`: what comes before is not going to be there. Its last sequence."""
        store = self.sink.store
        if store.last_seq < delivered:
            store.skip(delivered + 1, 0)
            self.sink.show_all()
        last: int = store.last_seq
        return last

    @property
    def sourcing(self) -> Sourcing:
        assert self.sink.sourcing is not None  # it has made this
        return self.sink.sourcing

    def keep(self) -> None:
        self.sourcing.keep(self)

    def follow_name(self, source: StreamSource) -> None:
        """Reads through another consumer where its name has changed: it depends on how often its origin is read."""
        self.source = source
        if self._config.name and not self._config.name.startswith(self._consumer_name()):
            self.delete_consumer()
            self.start()

    def _consumer_name(self) -> str:
        return f"JS_{'MIRROR' if self.is_mirror else 'SRC'}_{self.sourcing.consumer_hash(self.source)}"

    def delete_consumer(self) -> None:
        """Tries to remove the consumer at the origin, unless it was given to us."""
        if self.source.consumer is None and self._config.name:
            subject = self._at_origin(f"$JS.API.CONSUMER.DELETE.{self.source.name}.{self._config.name}")
            self.engine.publish(self.owner.account, raw(subject), b"")

    def info(self) -> SourceInfo:
        # The reference learns a mirror's filter when it first asks for a consumer.
        found = SourceInfo(self.source, self.lag, -1, self.error, self.is_mirror and not self._asked_ns)
        if self.last_ns:
            found.active = self.now_ns - self.last_ns
        if not self.is_mirror:
            found.seq = self.stored_sseq
        return found


class _Made:
    """What matters of an answer: the consumer that was made."""

    __slots__ = ("ack_policy", "deliver_subject", "delivered", "name", "pending")

    def __init__(self, body: dict[str, Any]) -> None:
        """Raises KeyError and TypeError where something is missing."""
        self.name = _of(str, body["name"])
        self.deliver_subject = _of(str, body["config"]["deliver_subject"])
        self.ack_policy = _of(str, body["config"]["ack_policy"])
        self.delivered = min(max(_of(int, body["delivered"]["stream_seq"]), 0), 1 << 62)
        self.pending = _of(int, body["num_pending"])


def _of(kind: type[Any], value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError
    return value


def _read_answer(payload: bytes) -> _Made | dict[str, Any] | None:
    """What a consumer create or reset was answered with: the consumer, an error, or None where it is neither."""
    try:
        body = json.loads(payload)
        if isinstance(body.get("error"), dict):
            error = body["error"]
            return {
                "code": _of(int, error["code"]),
                "err_code": _of(int, error.get("err_code", 0)),
                "description": _of(str, error.get("description", "")),
            }
        return _Made(body)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _start_as_configured(config: ConsumerConfig, source: StreamSource) -> None:
    if source.opt_start_seq > 0:
        config.deliver_policy, config.opt_start_seq = DELIVER_BY_START_SEQUENCE, source.opt_start_seq
    elif source.opt_start_time is not None:
        config.deliver_policy, config.opt_start_time = DELIVER_BY_START_TIME, source.opt_start_time


class Kept:
    """Where a source stands: the last sequence of its origin that was seen, the last one that was stored, the origin's
    identity, and the last sequence of the stream itself at that time.
    """

    __slots__ = ("identity", "last", "seq", "stored")

    def __init__(self, seq: int = 0, stored: int = 0, identity: str = "", last: int = 0) -> None:
        self.seq = seq
        self.stored = stored
        self.identity = identity
        self.last = last

    def as_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


class Sourcing:
    """All that one stream reads from."""

    def __init__(self, stream: ManagedStream) -> None:
        self.stream = stream
        self.mirror: Origin | None = None
        self.sources: dict[str, Origin] = {}
        self.kept: dict[str, Kept] = {}  # where each source stands, also those that aren't configured any more

    def start(self) -> None:
        """The stream is there: reads from now on."""
        self._load()
        self.follow(self.stream.config)

    def follow(self, config: StreamConfig) -> None:
        """Reads from what a configuration names, and from nothing else any more."""
        wanted = config.mirror
        if self.mirror is not None and wanted is None:
            self.mirror.delete_consumer()
            self.mirror.end()
            self.mirror = None
        elif self.mirror is None and wanted is not None:
            self.mirror = Origin(self.stream, wanted, True)
            self.mirror.start()
        names = {index_name(source): source for source in config.sources}
        for name in [name for name in self.sources if name not in names]:
            origin = self.sources.pop(name)
            origin.delete_consumer()
            origin.end()
        for origin in self.sources.values():
            origin.follow_name(names[origin.name])
        fresh = [Origin(self.stream, source, False) for name, source in names.items() if name not in self.sources]
        self._find_starts(fresh)
        for origin in fresh:
            self.sources[origin.name] = origin
            origin.start()

    def answer_direct(self) -> None:
        """Lets a mirror that has about all that its origin has answer direct gets for it."""
        if self.mirror is not None and self.mirror.reading and self.mirror.behind < CAUGHT_UP:
            self.stream.owner.listen_for_origin(self.stream)

    def origins(self) -> list[Origin]:
        return [*([self.mirror] if self.mirror is not None else []), *self.sources.values()]

    def origin_made(self, name: str) -> None:
        """There is a new stream of that name in this account: whoever waits for it needn't any longer."""
        for origin in self.origins():
            if origin.source.name == name and origin.source.external is None:
                origin.cancel()
                origin.start()

    def end(self, deleted: bool) -> None:
        for origin in self.origins():
            if deleted:
                origin.delete_consumer()
            origin.end()

    def consumer_hash(self, source: StreamSource) -> str:
        """What the name of a consumer at the origin ends in: the same one each time."""
        owner, config = self.stream.owner, self.stream.config
        name = short_hash(" ".join([self.stream.name, owner.account.name, *([owner.domain] if owner.domain else [])]))
        if config.mirror is source:
            return name
        if sum(one.name == source.name for one in config.sources) > 1:
            name = f"{name} {index_name(source)}"
        return short_hash(name)

    # Where sources stand

    def keep(self, origin: Origin) -> None:
        """Remembers, and writes in the batch of the messages, how far a source has come."""
        if self.stream.closed:
            return
        kept = Kept(origin.sseq, origin.stored_sseq, origin.identity, self.stream.store.last_seq)
        self.kept[origin.name] = kept
        if self.stream.config.storage == FILE:
            value = with_checksum(encode({"name": origin.name, **kept.as_json()}))
            self.stream.store.consumer_put_bytes(KEPT + raw(short_hash(origin.name)), value)
            self.stream.outbox.end_soon()

    def _load(self) -> None:
        if self.stream.config.storage != FILE:
            return
        for _, value in self.stream.store.consumer_items(KEPT):
            try:
                found = json.loads(without_checksum(value))
                name = found.pop("name")
                self.kept[name] = Kept(**found)
            except (ValueError, KeyError, TypeError, AttributeError):
                self.stream.owner.warn(f"JetStream can't read where a source of the stream '{self.stream.name}' stands")

    def _find_starts(self, origins: list[Origin]) -> None:
        """Lets sources go on where they were, by what is kept, and by the messages that came after it."""
        looked_for: dict[str, int] = {}
        for origin in origins:
            kept = self.kept.get(origin.name, Kept())
            origin.sseq, origin.stored_sseq, origin.identity = kept.seq, kept.stored, kept.identity
            looked_for[origin.name] = kept.last + 1
        by_name = {origin.name: origin for origin in origins}
        at = self.stream.store.last_seq
        while looked_for:
            at, value = last_source_header(self.stream, at, min(looked_for.values()))
            if not at:
                return
            stream, name, seq, identity = read_source_header(text(value))
            # An old header doesn't say which of the sources of its stream it is about.
            names = [name] if name else [one for one in looked_for if one.split(" ")[0] == stream]
            for one in names:
                if looked_for.pop(one, at + 1) <= at and seq:
                    found = by_name[one]
                    found.sseq, found.stored_sseq, found.identity = seq, seq, identity
            for one in [one for one, bound in looked_for.items() if bound >= at]:
                del looked_for[one]
            at -= 1
