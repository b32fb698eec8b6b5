"""Records of closed connections, for monitoring: what a Client was when it closed."""

from __future__ import annotations

from natsc.errors import CLOSE_REASONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from natsc._core import Client

_COPIED = (
    "cid", "kind", "ip", "port", "name", "lang", "version", "user", "start_ns", "last_activity_ns", "rtt_ns",
    "pending_bytes", "in_msgs", "in_bytes", "out_msgs", "out_bytes", "num_subs", "stalls", "protocol",
)  # fmt: skip


class ClosedClient:
    """A closed connection: the attributes of Client that monitoring reads, when it stopped (wall ns), and why."""

    __slots__ = (*_COPIED, "_subscriptions", "account", "conn", "opts", "reason", "stop_ns")

    def __init__(self, client: Client, stop_ns: int) -> None:
        for name in _COPIED:
            setattr(self, name, getattr(client, name))
        self.account = client.account.name
        self.conn = None
        # Nothing secret is kept of a closed connection.
        self.opts = {key: "set" if key == "auth_token" else value for key, value in (client.opts or {}).items()
                     if key in ("user", "nkey", "auth_token")}  # fmt: skip
        self._subscriptions = client.subscriptions() if client.num_subs else []
        self.stop_ns = stop_ns
        self.reason = CLOSE_REASONS[client.close_reason]

    def subscriptions(self) -> list[tuple[bytes, bytes | None, bytes, int, int]]:
        """(subject, queue or None, sid, delivered, max) of each."""
        return self._subscriptions
