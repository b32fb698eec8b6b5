"""JetStream of a server: the store, the accounts that use it, and the doors into it ($JS.API, direct gets).

Made only where JetStream is enabled; start() opens what is kept, shutdown() closes it. The order of things at the end
of a turn, and what waits for the disk, is the outbox's business (natsc/jetstream/outbox.pyx).
"""

from __future__ import annotations

import os
from collections import deque

from natsc.client_info import client_info
from natsc.jetstream.account import AccountJetStream
from natsc.jetstream.backend import StoreError
from natsc.jetstream.names import MEMORY, short_hash, text
from natsc.jetstream.outbox import Outbox
from natsc.jetstream.quota import AccountLimits, ServerLimits
from natsc.jetstream.retained import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc._core import Client
    from natsc._core import Request as Received
    from natsc.engine.account import Account
    from natsc.jetstream.api_request import Reply
    from natsc.jetstream.backend import Steps
    from natsc.jetstream.store import Store
    from natsc.jetstream.streams import ManagedStream

    Queued = tuple[bytes | None, Steps[Reply | None]]

# Below $JS.API, what consumers and streams answer.
_OF_OTHERS = (b"CONSUMER.MSG.NEXT.", b"DIRECT.GET")
# What there is under a domain's name.
_IN_DOMAIN = (b"INFO", b"STREAM.>", b"CONSUMER.>", b"DIRECT.>", b"META.>", b"SERVER.>", b"ACCOUNT.>")
_FORWARDED = (b"CONSUMER.MSG.NEXT.>", b"DIRECT.GET", b"DIRECT.GET.>", b"$KV.>", b"$OBJ.>")
_PREFIX = len("$JS.API.DIRECT.GET.")
LOST_TOLD = 100  # damaged messages of a stream that the log names one by one


_DOMAIN_MAX = 255
_NEVER = -1  # sync interval of a store that is thrown away


class JetStreamError(Exception):
    """JetStream can't start; the text says why."""


class JetStream:
    """server: natsc.server.Server, whose options are complete."""

    def __init__(self, server: Any, loop: Any) -> None:
        self.server = server
        self.loop = loop
        self.engine = server.engine
        self.clock = server.clock
        opts = server.options
        self.domain: str = opts.jetstream_domain
        self.strict = not opts.no_jetstream_strict
        self.long_acks: bool = opts.feature_flags.get("js_ack_fc_v2", False)
        self.store_dir = os.path.abspath(opts.store_dir) if opts.store_dir else _temporary_dir()
        self.store: Store | None = None
        self.outbox = Outbox(server.engine, server.clock)
        self.outbox.on_failure = self._on_failure
        if server.options.stream_max_buffered_size > 0:
            self.outbox.pending_max = server.options.stream_max_buffered_size
        memory, storage = opts.jetstream_max_memory, opts.jetstream_max_store
        self.max_memory = memory if memory > 0 or (memory == 0 and opts.max_mem_set) else _memory_share()
        given = storage > 0 or (storage == 0 and opts.max_store_set)
        self.max_storage = storage if given else _disk_share(self.store_dir)
        self.space = Usage(self.max_memory, self.max_storage)
        limits = opts.jetstream_limits
        self.limits = ServerLimits(
            self.max_memory, self.max_storage, limits.max_ack_pending, limits.max_request_batch, limits.duplicates,
            limits.default_max_consumers,
        )  # fmt: skip
        self.accounts: dict[str, AccountJetStream] = {}
        self.ended = False
        self.broken: list[str] = []  # streams that couldn't be opened: 'account > stream'
        self.open_batches = 0  # atomic ones, of all streams
        self.open_fast_batches = 0
        self.api_total = 0
        self.api_errors = 0
        self._queues: dict[AccountJetStream, deque[Queued]] = {}
        self._doors: dict[str, list[Client]] = {}
        self._direct: dict[ManagedStream, list[Client]] = {}
        self._for_origin: dict[
            ManagedStream, list[Client]
        ] = {}  # of mirrors that may answer direct gets of their origin

    # Life

    def start(self) -> None:
        """Opens what is kept and answers from now on. Raises JetStreamError."""
        from natsc.jetstream.store import foreign_streams, foreign_text

        if len(self.domain) > _DOMAIN_MAX:
            raise JetStreamError(f"the domain's name is longer than {_DOMAIN_MAX} characters")
        _check_directory(self.store_dir)
        try:
            foreign = foreign_streams(self.store_dir)
        except OSError as error:
            raise JetStreamError(f"the storage directory can't be read: {error}") from None
        if foreign is not None:
            raise JetStreamError(foreign_text(self.store_dir, foreign))
        self.configure_accounts()
        if os.path.exists(os.path.join(self.store_dir, "natsc")):
            try:
                from natsc.jetstream.recovery import recover

                self.open_store()
                recover(self)
            except StoreError as error:
                raise JetStreamError(str(error)) from None
        for backend in self.accounts.values():
            for stream in backend.streams():
                stream.start()
        self.engine.end_turn()

    def configure_accounts(self) -> None:
        """Which accounts have JetStream, and how much of it: from the configuration, again after a reload."""
        server = self.server
        configured = {account.name: account for account in server.configured_accounts()}
        system = server.system_account_name
        alone = not any(name != system for name in configured)
        for account in server.engine.accounts():
            if account.name == system:
                self._open_system_door(account)
                continue
            if account.name in server.gone_accounts and account.name not in self.accounts:
                continue
            backend = self.accounts.get(account.name)
            if backend is None:
                backend = self.accounts[account.name] = AccountJetStream(self, account)
                self._open_doors(backend)
            given = configured[account.name].jetstream if account.name in configured else {}
            if given:
                backend.enable({tier: _account_limits(limits) for tier, limits in given.items()})
            elif alone and account.name == "$G":
                backend.enable({"": AccountLimits()})
            else:
                backend.enabled = False

    def reload(self) -> None:
        """The options have changed: limits that may grow, and the accounts."""
        opts = self.server.options
        if opts.jetstream_max_memory > 0:
            self.max_memory = self.space.max_memory = self.limits.max_memory = opts.jetstream_max_memory
        if opts.jetstream_max_store > 0:
            self.max_storage = self.space.max_storage = self.limits.max_storage = opts.jetstream_max_store
        self.configure_accounts()

    def _open_doors(self, backend: AccountJetStream) -> None:
        def answer(request: Received) -> None:
            self._on_request(backend, request)

        def forward(request: Received) -> None:
            """What is asked of consumers and streams, or written to buckets, under the domain's name."""
            self._forward(backend, request)

        def listen(space: bytes, below: bytes) -> Client:
            declined = tuple(space + one for one in _OF_OTHERS)
            door: Client = self.engine.subscribe(backend.account, space + below, answer, declined=declined)
            return door

        doors = [listen(b"$JS.API.", b">")]
        if self.domain:
            prefix = f"$JS.{self.domain}.API.".encode()
            doors += [listen(prefix, below) for below in _IN_DOMAIN]
            doors += [self.engine.subscribe(backend.account, prefix + below, forward) for below in _FORWARDED]
        self._doors[backend.account.name] = doors

    def _forward(self, backend: AccountJetStream, request: Received) -> None:
        subject = request.subject[len(f"$JS.{self.domain}.API.") :]
        if not subject.startswith((b"$KV.", b"$OBJ.")):
            subject = b"$JS.API." + subject
        account, reply, client = backend.account, request.reply, request.client
        received = self.engine.publish(account, subject, request.payload, reply=reply, headers=request.headers)
        if not received and reply is not None and client is not None and (client.opts or {}).get("no_responders"):
            self.engine.publish(account, reply, b"", headers=b"NATS/1.0 503\r\nNats-Subject: %b\r\n\r\n" % subject)

    def _open_system_door(self, account: Account) -> None:
        """The system account has no JetStream, and is told so."""
        if account.name in self._doors:
            return

        def answer(received: Received) -> None:
            from natsc.jetstream.api_request import Request
            from natsc.jetstream.api_system import dispatch_system

            reply = dispatch_system(Request(text(received.subject), received.payload), self.purge_account)
            if reply is not None and received.reply is not None:
                self.outbox.reply_bytes(account, received.reply, reply.payload, reply.headers)

        self._doors[account.name] = [self.engine.subscribe(account, b"$JS.API.>", answer)]

    def purge_account(self, name: str) -> None:
        """Deletes every stream of an account, if there is such an account."""
        backend = self.accounts.get(name)
        if backend is None:
            return
        transfers: list[Any] = [*backend.restoring.values(), *backend.snapshots]
        for transfer in transfers:
            transfer.cancel()
        for stream in backend.streams():
            stream.delete()

    def forget_account(self, name: str) -> None:
        """Deletes every stream of an account that is about to go, and answers nobody in it any more."""
        self.purge_account(name)
        self.accounts.pop(name, None)
        for door in self._doors.pop(name, ()):
            self.engine.unsubscribe(door)

    def clear(self) -> None:
        """Deletes every stream, and counts anew."""
        for name, backend in self.accounts.items():
            self.purge_account(name)
            backend.api_total = backend.api_errors = 0
        self.engine.end_turn()
        self.settle()
        self.api_total = self.api_errors = 0

    def open_store(self) -> Store:
        """The store, opened at its first use. Raises StoreError."""
        if self.store is None:
            from natsc.jetstream import store as storage

            opts = self.server.options
            relaxed = opts.sync_set and not opts.sync_always and not self.server.store_thrown_away
            interval_ns = _NEVER if self.server.store_thrown_away else opts.sync_interval if relaxed else 0
            try:
                if opts.jetstream_key:
                    from natsc.jetstream.encrypt import open_encrypted

                    self.store = open_encrypted(
                        self.store_dir, self.server.log.notice, sync_interval_ns=interval_ns, key=opts.jetstream_key,
                        old_key=opts.jetstream_old_key, cipher=opts.jetstream_cipher,
                    )  # fmt: skip
                else:
                    self.store = storage.Store(self.store_dir, sync_interval_ns=interval_ns)
            except storage.StoreError as error:
                raise StoreError(str(error)) from None
            self.store.on_damage = self.tell_lost
            self.store.on_skipped = self._on_skipped
            self.outbox.attach(self.store)
            self.clock.settle = self.settle
            self.loop.add_reader(self.store.fileno(), self._on_durable)
            if self.store.went_back:
                self.server.log.warn(
                    "The machine has stopped since JetStream synced its store: what was acknowledged after that is lost"
                )
            if relaxed:
                self.server.log.warn(
                    "JetStream syncs its store at intervals: "
                    "what was acknowledged since the last time is lost in a power failure"
                )
        return self.store

    def tell_lost(self, account: str, stream: str, lost: list[tuple[int, str]]) -> None:
        """Says which messages turned out to be damaged."""
        for seq, reason in lost[:LOST_TOLD]:
            self.server.log.error(f"JetStream lost message {seq} of the stream '{account} > {stream}': {reason}")
        if len(lost) > LOST_TOLD:
            more = len(lost) - LOST_TOLD
            self.server.log.error(f"JetStream lost {more:,} more messages of the stream '{account} > {stream}'")

    def _on_skipped(self, count: int) -> None:
        self.server.log.error(
            f"JetStream can't remove {count:,} entries from disk, for they are on a damaged page: "
            "messages among them may be back after a restart"
        )

    def _on_durable(self) -> None:
        self.outbox.release()
        self.engine.end_turn()

    def settle(self) -> None:
        """Waits for the disk, and lets go what waited for it, for tests that move the clock or empty the server."""
        from natsc.jetstream.store import StoreError as Failure

        while self.store is not None and self.store.pending_bytes:
            try:
                self.store.wait_durable()
            except Failure:
                self._on_durable()  # tells those who wait
                return
            self._on_durable()

    @property
    def failure(self) -> str:
        """Why nothing becomes durable any more."""
        return (self.store.failure if self.store is not None else None) or "storage failed"

    def _on_failure(self) -> None:
        self.server.log.error(f"JetStream {self.failure}: nothing more is stored until the server is restarted")

    def shutdown(self) -> None:
        """Writes what is open, answers who waits, and gives the store back."""
        self.server.log.notice("Initiating JetStream Shutdown...")
        self.ended = True
        for backend in self.accounts.values():
            for stream in backend.streams():
                stream.shutdown()
        self.engine.end_turn()
        if self.store is not None:
            from natsc.jetstream.store import StoreError as Failure

            self.loop.remove_reader(self.store.fileno())
            try:
                self.store.wait_durable()
                self.outbox.release()
                self.engine.end_turn()
                self.outbox.detach()
                self.store.close()
            except Failure as error:
                self.outbox.detach()
                self.server.log.error(f"JetStream {error}")
            self.store = self.clock.settle = None
        for doors in self._doors.values():
            for door in doors:
                self.engine.unsubscribe(door)
        self._doors.clear()
        self._queues.clear()
        self.server.log.notice("JetStream Shutdown")

    # Requests

    def _on_request(self, backend: AccountJetStream, received: Received) -> None:
        """A request to the API. Its answer waits for the disk: what it tells of may have been written just now."""
        from natsc.jetstream import api
        from natsc.jetstream.api_request import Request

        client = _requester(backend, self.server, received)
        subject = text(received.subject)
        if self.domain and subject.startswith(f"$JS.{self.domain}.API."):
            subject = f"$JS.API.{subject[len(self.domain) + 9 :]}"
        request = Request(subject, received.payload, received.headers or b"", client)
        queue = self._queues.get(backend)
        if queue is None:
            steps = api.begin(request, backend)
            if self._step(backend, received.reply, steps):
                return
            queue = self._queues[backend] = deque(((received.reply, steps),))
            self.clock.call_later(0, lambda: self._go_on(backend))
        elif len(queue) < self.server.options.jetstream_request_queue_limit:
            queue.append((received.reply, api.begin(request, backend)))
        else:
            self._drop_waiting(backend, queue)

    def _step(self, backend: AccountJetStream, reply_to: bytes | None, steps: Steps[Reply | None]) -> bool:
        """Goes on with a request. True when it is done, and answered."""
        before = self.outbox.queued
        try:
            next(steps)
        except StopIteration as done:
            reply: Reply | None = done.value
        else:
            return False
        if reply is None or reply_to is None:
            return True
        durable = self.outbox.queued != before or not self.outbox.failed
        self.outbox.reply_bytes(
            backend.account, reply_to, reply.payload, reply.headers, durable=durable,
            failure=_not_stored(reply.payload) if durable else b"",
        )  # fmt: skip
        return True

    def _go_on(self, backend: AccountJetStream) -> None:
        """A request of an account takes several turns: those behind it wait, so that none sees it half done."""
        queue = self._queues.get(backend)
        if queue is None:
            return
        if self._step(backend, *queue[0]):
            queue.popleft()
        if queue:
            self.clock.call_later(0, lambda: self._go_on(backend))
        else:
            del self._queues[backend]
        self.engine.end_turn()

    def _drop_waiting(self, backend: AccountJetStream, queue: deque[Queued]) -> None:
        """Too many requests wait: all but the one in hand are dropped, and time out at those who sent them."""
        from natsc.jetstream.advisories import api_limit_reached

        dropped = len(queue)  # with the new one, without the one in hand
        while len(queue) > 1:
            queue.pop()[1].close()
        self.server.log.warn(f"JetStream API queue limit reached, dropping {dropped:,} requests")
        subject, payload = api_limit_reached(backend, dropped)
        for account in self.engine.accounts():
            if account.name == self.server.system_account_name:
                self.outbox.reply_bytes(account, subject.encode(), payload, durable=False)

    def listen_direct(self, backend: AccountJetStream, stream: ManagedStream) -> None:
        """Answers direct gets of a stream, where it allows them."""
        self.unlisten_direct(stream)
        if stream.config.allow_direct:
            self._direct[stream] = self._direct_doors(backend, stream, stream.name)

    def listen_for_origin(self, backend: AccountJetStream, mirror: ManagedStream) -> None:
        """Answers direct gets of a mirror's origin that is not in the account, where the mirror is told to."""
        for client in self._for_origin.pop(mirror, ()):
            self.engine.unsubscribe(client)
        if mirror.config.mirror is not None and mirror.config.mirror_direct:
            self._for_origin[mirror] = self._direct_doors(backend, mirror, mirror.config.mirror.name)

    def _direct_doors(self, backend: AccountJetStream, stream: ManagedStream, name: str) -> list[Client]:
        """Answers direct gets of the stream `name` from `stream`."""

        def answer(received: Received) -> None:
            named = backend.stream(name)
            if received.reply is None or (named is not stream and named is not None and named.config.allow_direct):
                return
            from natsc.jetstream.api_messages import direct_get
            from natsc.jetstream.api_request import Request

            key = text(received.subject)[_PREFIX + len(name) + 1 :]
            request = Request(text(received.subject), received.payload, received.headers or b"")
            for reply in direct_get(stream, request, key, backend):
                self.outbox.reply_bytes(backend.account, received.reply, reply.payload, reply.headers, durable=False)

        subject = f"$JS.API.DIRECT.GET.{name}".encode()
        return [self.engine.subscribe(backend.account, one, answer) for one in (subject, subject + b".>")]

    def unlisten_direct(self, stream: ManagedStream) -> None:
        """Ends listen_direct and listen_for_origin."""
        for client in (*self._direct.pop(stream, ()), *self._for_origin.pop(stream, ())):
            self.engine.unsubscribe(client)

    # Figures

    def reserved(self, *, in_memory: bool) -> int:
        """Bytes that all streams in memory, or all in files, have reserved."""
        configs = [stream.config for backend in self.accounts.values() for stream in backend.streams()]
        return sum(max(c.max_bytes, 0) for c in configs if (c.storage == MEMORY) == in_memory)

    def figures(self) -> dict[str, Any]:
        """The server's JetStream statistics, as monitoring shows them."""
        enabled = [backend for backend in self.accounts.values() if backend.enabled]
        return {
            "memory": self.space.memory,
            "storage": self.space.storage,
            "reserved_memory": self.reserved(in_memory=True),
            "reserved_storage": self.reserved(in_memory=False),
            "accounts": len(enabled),
            "ha_assets": 0,
            "api": {"level": 5, "total": self.api_total, "errors": self.api_errors},
        }

    def config_figures(self) -> dict[str, Any]:
        opts = self.server.options
        found: dict[str, Any] = {
            "max_memory": self.max_memory, "max_storage": self.max_storage,
            "store_dir": os.path.join(self.store_dir, "natsc"),
        }  # fmt: skip
        if opts.sync_set and not opts.sync_always:
            found["sync_interval"] = opts.sync_interval
        else:
            found["sync_always"] = True
        if self.domain:
            found["domain"] = self.domain
        found["compress_ok"] = True  # of what servers of a cluster say to each other
        if self.strict:
            found["strict"] = True
        return found


def _not_stored(answer: bytes) -> bytes:
    """What is answered instead where the store fails in between: an error of the same type."""
    from natsc.jetstream.api_errors import STREAM_STORE_FAILED, ApiError
    from natsc.jetstream.schema import encode

    kind = answer[: answer.index(b",") if b"," in answer else -1]
    return kind + b"," + encode({"error": ApiError(STREAM_STORE_FAILED, err="store failed").as_json()})[1:]


# As the log calls them, by their names in the configuration.
_CIPHERS = {"": "ChaCha20-Poly1305", "chacha": "ChaCha20-Poly1305", "aes": "AES-GCM"}


def announce(server: Any, jetstream: JetStream) -> None:
    """The lines about JetStream in the log of a start."""
    from natsc.jetstream.banner import lines

    for line in lines(
        jetstream.strict, jetstream.max_memory, jetstream.max_storage, os.path.join(jetstream.store_dir, "natsc"),
        jetstream.domain, _CIPHERS[server.options.jetstream_cipher] if server.options.jetstream_key else "",
    ):  # fmt: skip
        server.log.notice(line)


def node_name(server_name: str) -> str:
    return short_hash(server_name)


def _requester(backend: AccountJetStream, server: Any, received: Received) -> dict[str, Any]:
    """Who asks: a client, or a stream of this server, which reads from another one."""
    client = received.client
    if client is not None and client.account is backend.account:
        return client_info(server, client, True)
    if client is not None:
        return _stranger_info(backend, received.headers or b"")
    from natsc.jetstream.gotime import format_time

    start = format_time(backend.now())
    return {"start": start, "acc": backend.account.name, "server": backend.server_name, "kind": "JetStream"}


def _stranger_info(backend: AccountJetStream, headers: bytes) -> dict[str, Any]:
    """Who asks from another account: as much as its import shares. The server itself wrote the header on the way."""
    import json

    from natsc.jetstream.api_request import header

    told: dict[str, Any] = json.loads(header(headers, "Nats-Request-Info") or "{}")
    told["svc"] = backend.account.name
    told.setdefault("server", backend.server_name)
    order = ("start", "host", "id", "acc", "svc", "user", "name", "lang", "ver", "rtt", "server")
    return {name: told.pop(name) for name in order if name in told} | told


def _account_limits(given: Any) -> AccountLimits:
    return AccountLimits(
        given.max_memory, given.max_store, given.max_streams, given.max_consumers, given.max_ack_pending,
        given.memory_max_stream_bytes, given.store_max_stream_bytes, given.max_bytes_required,
    )  # fmt: skip


def _temporary_dir() -> str:
    import tempfile

    return os.path.join(tempfile.gettempdir(), "nats")


def _check_directory(path: str) -> None:
    from natsc.jetstream.store import make_directory

    try:
        make_directory(path, 0o750)
    except FileExistsError:
        raise JetStreamError("storage directory is not a directory") from None
    except OSError as error:
        from natsc.oserrors import errno_text

        raise JetStreamError(f"could not create storage directory - mkdir {path}: {errno_text(error)}") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise JetStreamError("storage directory is not writable")


def _memory_share() -> int:
    """Three quarters of the machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4 * 3


def _disk_share(path: str) -> int:
    """Three quarters of what is free where the store is, or will be."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    free = os.statvfs(path)
    return free.f_bavail * free.f_frsize // 4 * 3
