"""Answers to requests on the system account: the monitoring endpoints as messages, account statistics, KICK and such.

The options of a request are JSON; they become the query of the HTTP endpoint that has the same data
(natsc/monitor/endpoints.py), whose answer goes into nats-server's envelope.
"""

from __future__ import annotations

import json

from natsc import errors
from natsc.monitor import accounts, snapshot, varz
from natsc.monitor.endpoints import ENDPOINTS
from natsc.monitor.gojson import compact, timestamp
from natsc.monitor.params import BadRequest
from natsc.server import info

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc._core import Request
    from natsc.server.system import System

_JETSTREAM_FLAGS = 7  # it is enabled, snapshots are binary, Raft traffic may go through the account's own
_FILTERS: dict[str, tuple[type, str]] = {
    "server_name": (str, ""), "cluster": (str, ""), "host": (str, ""), "exact_match": (bool, ""), "tags": (list, ""),
    "domain": (str, ""),
}  # fmt: skip
# By endpoint: its path, its options struct in nats-server, and for each option the type and the query's name.
_OPTIONS: dict[str, tuple[str, str, dict[str, tuple[type, str]]]] = {
    "VARZ": ("/varz", "Varz", {}),
    "CONNZ": ("/connz", "Connz", {
        "sort": (str, "sort"), "auth": (bool, "auth"), "subscriptions": (bool, "subs"),
        "subscriptions_detail": (bool, "subs=detail"), "offset": (int, "offset"), "limit": (int, "limit"),
        "cid": (int, "cid"), "mqtt_client": (str, "mqtt_client"), "state": (int, "state"), "user": (str, "user"),
        "acc": (str, "acc"), "filter_subject": (str, "filter_subject"),
    }),
    "SUBSZ": ("/subsz", "Subsz", {
        "offset": (int, "offset"), "limit": (int, "limit"), "subscriptions": (bool, "subs"), "account": (str, "acc"),
        "test": (str, "test"),
    }),
    "ROUTEZ": ("/routez", "Routez", {"subscriptions": (bool, "subs"), "subscriptions_detail": (bool, "subs=detail")}),
    "GATEWAYZ": ("/gatewayz", "Gatewayz", {
        "name": (str, "gw_name"), "accounts": (bool, "accs"), "account_name": (str, "acc_name"),
    }),
    "LEAFZ": ("/leafz", "Leafz", {"subscriptions": (bool, "subs"), "account": (str, "acc")}),
    "ACCOUNTZ": ("/accountz", "Accountz", {"account": (str, "acc")}),
    "JSZ": ("/jsz", "Jsz", {
        "account": (str, "acc"), "accounts": (bool, "accounts"), "streams": (bool, "streams"),
        "consumer": (bool, "consumers"), "direct_consumer": (bool, "direct-consumers"), "config": (bool, "config"),
        "leader_only": (bool, "leader-only"), "offset": (int, "offset"), "limit": (int, "limit"),
        "raft": (bool, "raft"), "stream_leader_only": (bool, "stream-leader-only"),
    }),
    "HEALTHZ": ("/healthz", "Healthz", {
        "js-enabled": (bool, "js-enabled-only"), "js-enabled-only": (bool, "js-enabled-only"),
        "js-server-only": (bool, "js-server-only"), "js-meta-only": (bool, "js-meta-only"), "account": (str, "account"),
        "stream": (str, "stream"), "consumer": (str, "consumer"), "details": (bool, "details"),
    }),
    "EXPVARZ": ("/debug/vars", "Expvarz", {}),
    "IPQUEUESZ": ("/ipqueuesz", "Ipqueuesz", {"all": (bool, "all"), "filter": (str, "queues")}),
    "RAFTZ": ("", "Raftz", {}),
    "PROFILEZ": ("", "Profilez", {}),
}  # fmt: skip
_STATES = ("open", "closed", "any")
_GO_TYPES = {str: "string", bool: "bool", int: "int", list: "[]string"}


class _Silence(Exception):
    """Nobody is answered: the request wasn't for this server, or there is nothing to tell."""


class _Fault(Exception):
    """An error for the requester, with its code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class _Packed(bytes):
    """An answer that may be compressed."""


def about(system: System) -> dict[str, Any]:
    """The `server` block: the server, as its messages in the system account name it."""
    server, opts = system.server, system.server.options
    block: dict[str, Any] = {"name": server.server_name, "host": opts.host, "id": server.server_id}
    if opts.cluster.name:
        block["cluster"] = opts.cluster.name
    if server.jetstream is not None and server.jetstream.domain:
        block["domain"] = server.jetstream.domain
    block["ver"] = info.VERSION
    if opts.tags:
        block["tags"] = opts.tags
    if opts.metadata:
        block["metadata"] = opts.metadata
    block["feature_flags"] = snapshot.feature_flags(server)
    block["jetstream"] = server.jetstream is not None
    block["flags"] = _JETSTREAM_FLAGS if server.jetstream is not None else 0
    system.sequence += 1
    block["seq"] = system.sequence
    block["time"] = timestamp(server.clock.wall_ns())
    return block


def encode(body: dict[str, Any]) -> bytes:
    """A message's payload."""
    return compact(body).encode("utf-8", "surrogateescape")


def bare(system: System) -> bytes:
    """Nothing but who says it."""
    return encode({"server": about(system)})


def statistics(system: System) -> bytes:
    """STATSZ: what /varz knows, in another form."""
    server = system.server
    body = varz.build(server)
    sent = {"msgs": body["out_msgs"], "bytes": body["out_bytes"]}
    received = {"msgs": body["in_msgs"], "bytes": body["in_bytes"]}
    stats: dict[str, Any] = {
        "start": timestamp(server.start_ns), "mem": body["mem"], "cores": body["cores"], "cpu": body["cpu"],
        "connections": body["connections"], "total_connections": body["total_connections"],
        "active_accounts": sum(snapshot.is_active(server, account) for account in snapshot.accounts(server)),
        "subscriptions": body["subscriptions"], "sent": sent, "sent_to_clients": sent, "received": received,
        "received_from_clients": received, "slow_consumers": body["slow_consumers"],
    }  # fmt: skip
    if body["slow_consumers"]:
        stats["slow_consumer_stats"] = body["slow_consumer_stats"]
    if body["stale_connections"]:
        stats["stale_connections"] = body["stale_connections"]
        stats["stale_connection_stats"] = body["stale_connection_stats"]
    if body["stalled_clients"]:
        stats["stalled_clients"] = body["stalled_clients"]
    stats["active_servers"] = 1
    if server.jetstream is not None:
        stats["jetstream"] = body["jetstream"]
    stats["gomaxprocs"] = body["gomaxprocs"]
    return encode({"server": about(system), "statsz": stats})


def account_statistics(system: System, account: Any) -> bytes:
    """Of one account: its connections, and what went in and out."""
    server = system.server
    head = {"type": "io.nats.server.advisory.v1.account_connections", "id": server.event_id()}
    head["timestamp"] = timestamp(server.clock.wall_ns())
    return encode({**head, "server": about(system), **accounts.statistics(account)})


def answer(system: System, request: Request) -> None:
    """The answer to one request, if it gets one."""
    if request.reply is None:
        return
    payload = _payload(system, request)
    if payload is None:
        return
    headers = None
    if isinstance(payload, _Packed):
        from natsc.jetstream.api_request import header
        from natsc.server.encoding import encoded

        payload, headers = encoded(bytes(payload), header(request.headers or b"", "Accept-Encoding") or "")
    system.server.engine.publish(system.account, request.reply, payload, headers=headers)


def _payload(system: System, request: Request) -> bytes | None:
    tokens = request.subject.decode("utf-8", "surrogateescape").split(".")
    name = tokens[-1]
    if tokens[1] == "DEBUG":
        subject = request.payload.strip()
        return b"%d" % len(system.server.engine.match(system.account, subject)) if subject else None
    if tokens[2] == "SERVER" and name in ("PING", "STATSZ", "IDZ"):
        if name == "IDZ":
            server = system.server
            return encode({"name": server.server_name, "host": server.options.host, "id": server.server_id})
        try:
            _options(system, "Statsz", {}, request.payload)
        except (_Silence, _Fault):
            return None
        return statistics(system)
    if tokens[2] == "ACCOUNT" and name == "CONNS":
        account = snapshot.account(system.server, tokens[3])
        return account_statistics(system, account) if account is not None and account.num_clients else None
    body: dict[str, Any] = {}
    try:
        body["data"] = _data(system, tokens, request)
    except _Silence:
        return None
    except _Fault as fault:
        if fault.code == 500 and name not in ("KICK", "LDM", "RELOAD"):
            body["data"] = None
        body["error"] = {"code": fault.code, "description": str(fault)}
    if body.get("data", 0) is None and "error" not in body:
        del body["data"]
    answered = encode({"server": about(system), **body})
    return answered if "error" in body or tokens[2] == "USER" else _Packed(answered)


def _data(system: System, tokens: list[str], request: Request) -> Any:
    """What stands under `data`; None for nothing. Raises _Fault or _Silence."""
    name = tokens[-1]
    if tokens[2] == "USER":
        return _user(system, request)
    if tokens[2] == "ACCOUNT":
        return _of_account(system, tokens[3], name, request.payload)
    if name in ("KICK", "LDM"):
        return _on_client(system, name, request.payload)
    if name == "RELOAD":
        from natsc.server.reload import ReloadError, reload_from_file

        try:
            if not reload_from_file(system.server):
                raise _Fault(500, "the configuration was not taken over: see the log")
        except ReloadError as error:
            raise _Fault(500, str(error)) from None
        return None
    path, struct, fields = _OPTIONS[name]
    query = _options(system, struct, fields, request.payload)
    if name == "PROFILEZ":
        return {"profile": None, "error": "natsc has no Go runtime to profile"}
    if name == "RAFTZ":
        return {}  # a single server has no Raft groups
    return _endpoint(system, name, path, query)


def _endpoint(system: System, name: str, path: str, query: dict[str, str]) -> Any:
    """What an HTTP endpoint says. Requests of this kind aren't counted as HTTP's."""
    server = system.server
    counted = dict(server.http_req_stats)
    try:
        status, _, body = _connections(server, query) if name == "CONNZ" else ENDPOINTS[path](server, query)
    except BadRequest as fault:
        raise _Fault(500, str(fault)) from None
    finally:
        server.http_req_stats = counted
    data = json.loads(body if isinstance(body, bytes) else b"".join(body))
    if name == "VARZ":
        data["http_req_stats"] = dict(sorted(counted.items()))
    if name == "HEALTHZ":
        data = {"status": data["status"], "status_code": status, **data}
    return data


def _connections(server: Any, query: dict[str, str]) -> Any:
    """/connz, with the filter that HTTP doesn't have."""
    from natsc.monitor import connz

    options = connz.ConnzOptions(query)
    options.filter_subject = query.get("filter_subject", "")
    return connz.respond(server, options)


def _options(system: System, struct: str, fields: dict[str, tuple[type, str]], payload: bytes) -> dict[str, str]:
    """A request's options as a query. Raises _Fault for what are none, _Silence for those of other servers."""
    if not payload.strip():
        return {}
    try:
        said = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise _not_json(payload, error) from None
    if not isinstance(said, dict):
        raise _Fault(400, f"json: cannot unmarshal {_kind(said)} into Go value of type server.{struct}EventOptions")
    query: dict[str, str] = {}
    for name, value in said.items():
        known = fields.get(name) or _FILTERS.get(name)
        if known is None or value is None:
            continue
        wanted, option = known
        given = type(value)
        if given is not wanted:
            where = f"Go struct field {struct}EventOptions.{name} of type {_GO_TYPES[wanted]}"
            raise _Fault(400, f"json: cannot unmarshal {_kind(value)} into {where}")
        if option == "state":
            value = _STATES[value] if 0 <= value < len(_STATES) else "open"
        if option and value:
            key, _, fixed = option.partition("=")
            query[key] = fixed or ("1" if value is True else str(value))
    if not _is_meant(system, said):
        raise _Silence
    return query


def _not_json(payload: bytes, error: Exception) -> _Fault:
    from natsc.jetstream.json_syntax import fault_of

    return _Fault(400, fault_of(payload) or str(error))


def _kind(value: Any) -> str:
    for kind, text in ((bool, "bool"), (str, "string"), (list, "array"), (dict, "object")):
        if isinstance(value, kind):
            return text
    return "number"


def _is_meant(system: System, said: dict[str, Any]) -> bool:
    """Whether the request's filters let this server answer."""
    server, opts = system.server, system.server.options
    exact = bool(said.get("exact_match"))
    own = {"server_name": server.server_name, "host": opts.host, "cluster": opts.cluster.name}
    for name, text in own.items():
        wanted = said.get(name)
        if wanted and (wanted != text if exact else wanted not in text):
            return False
    domain = said.get("domain")
    if domain and (server.jetstream is None or server.jetstream.domain != domain):
        return False
    return all(tag in (opts.tags or ()) for tag in said.get("tags") or ())


def _of_account(system: System, name: str, what: str, payload: bytes) -> Any:
    server = system.server
    if what == "STATZ":
        return _account_statz(system, name, payload)
    if what == "INFO":
        _options(system, "AccInfo", {}, payload)
        return _endpoint(system, what, "/accountz", {"acc": name})["account_detail"]
    if what == "JSZ" and server.jetstream is None:
        raise _Fault(500, "jetstream not enabled")
    path, struct, fields = _OPTIONS[what]
    query = {**_options(system, struct, fields, payload), "acc": name}
    if what == "SUBSZ":
        query.setdefault("subs", "1")
    if what == "JSZ" and "streams" not in query:
        query.pop("consumers", None)
    data = _endpoint(system, what, path, query)
    if what == "JSZ":
        details = data.get("account_details")
        if not details:
            known = snapshot.account(server, name) is not None
            raise _Fault(500, f'account "{name}" not {"jetstream enabled" if known else "found"}')
        return details[0]
    return data


def _account_statz(system: System, name: str, payload: bytes) -> Any:
    """Statistics of one account, or with PING in its place of those asked for."""
    fields: dict[str, tuple[type, str]] = {"accounts": (list, ""), "include_unused": (bool, "unused")}
    query = _options(system, "AccountStatz", fields, payload)
    wanted = json.loads(payload).get("accounts") or [] if payload.strip() else []
    wanted = wanted if name == "PING" else [name]
    data = _endpoint(system, "STATZ", "/accstatz", {"unused": query.get("unused", "")})
    if wanted:
        data["account_statz"] = [entry for entry in data["account_statz"] if entry["acc"] in wanted]
    if not data["account_statz"] and "unused" not in query:
        raise _Silence
    return data


def _user(system: System, request: Request) -> dict[str, Any]:
    """Who the requester is, and what it may."""
    client = request.client
    if client is None:
        raise _Silence
    found: dict[str, Any] = {"user": client.user, "account": client.account.name}
    claimed = snapshot.claims(system.server, client.account.name)
    found["account_name"] = claimed.name_tag if claimed is not None and claimed.name_tag else client.account.name
    grant, jwt_user = client.grant, snapshot.jwt_user(client)
    if jwt_user is not None and jwt_user.name:
        found["user_name"] = jwt_user.name
    permissions = grant.permissions if grant is not None else None
    if permissions is not None:
        found["permissions"] = _permissions(permissions)
    if grant is not None and grant.expires:
        found["expires"] = max(grant.expires - system.server.clock.wall_ns(), 0)
    return found


def _permissions(permissions: Any) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for side in ("publish", "subscribe"):
        rules = getattr(permissions, side)
        if rules is not None:
            lists = {name: getattr(rules, name) for name in ("allow", "deny") if getattr(rules, name)}
            shown[side] = lists
    if permissions.response is not None:
        shown["responses"] = {"max": permissions.response.max_msgs, "ttl": permissions.response.expires}
    return shown


def _on_client(system: System, what: str, payload: bytes) -> None:
    """KICK closes a client; LDM tells it that the server will stop."""
    server = system.server
    try:
        cid = json.loads(payload or b"{}").get("cid", 0)
    except (ValueError, AttributeError, RecursionError) as error:
        raise _not_json(payload, error) from None
    client = snapshot.connection(server, cid) if type(cid) is int else None
    if client is None:
        raise _Fault(500, "no such client or leafnode id" if what == "KICK" else "no such client id")
    if what == "KICK":
        client.close(errors.KICKED)
    elif client.protocol >= 1 and client.first_pong_sent:
        client.send(server.info_line(client, ldm=True))
