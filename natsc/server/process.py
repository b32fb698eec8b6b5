"""What a server leaves outside itself, and how another process reaches it: pid file, ports file, signals, process name.

Names are nats-server's, because tools look for them: a harness that starts a server waits for
`nats-server_<pid>.ports`.
"""

from __future__ import annotations

import os
import socket
import struct

from natsc.oserrors import errno_text, path_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SERVER_NAME = "nats-server"
OWN_NAME = "natsc"

PID_FILE_MODE = 0o600
PORTS_FILE_MODE = 0o666

# The commands of --signal.
_COMMANDS = {
    "stop": "SIGKILL",
    "quit": "SIGINT",
    "reopen": "SIGUSR1",
    "reload": "SIGHUP",
    "ldm": "SIGUSR2",
    "term": "SIGTERM",
}

# The signals a server answers to, in the words of its log: Trapped "hangup" signal.
SIGNAL_TEXTS = {
    "SIGHUP": "hangup",
    "SIGINT": "interrupt",
    "SIGTERM": "terminated",
    "SIGUSR1": "user defined signal 1",
    "SIGUSR2": "user defined signal 2",
}


class SignalError(Exception):
    """A signal that could not be sent; str() is the text after "nats-server: "."""


class FileError(Exception):
    """A file that could not be written or removed; str() is Go's text: "open /x: permission denied"."""


# --- process name and pid file


def set_process_name() -> None:
    """Lets `pgrep natsc` and top find a server that was started through the interpreter (python -m natsc)."""
    try:
        with open("/proc/self/comm", "r+") as comm:
            if comm.read().startswith("python"):
                comm.seek(0)
                comm.write(OWN_NAME)
    except OSError:
        return  # Not Linux, or no /proc: the name stays the interpreter's.


def write_pid_file(path: str) -> None:
    """The decimal pid without a newline. Raises FileError."""
    _write_file(path, str(os.getpid()).encode(), PID_FILE_MODE)


def _write_file(path: str, data: bytes, mode: int) -> None:
    operation = "open"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        operation = "write"
        with os.fdopen(fd, "wb") as file:
            file.write(data)
    except OSError as error:
        raise FileError(path_error(operation, path, error)) from None


# --- ports file


def ports_file_path(directory: str) -> str:
    """Where a server with this pid writes its ports in `directory`."""
    return os.path.join(directory, f"{SERVER_NAME}_{os.getpid()}.ports")


def write_ports_file(directory: str, ports: Mapping[str, Sequence[str]]) -> str:
    """Writes the URLs of the listeners and returns the file's path. Raises FileError.

    `ports` maps "nats", "monitoring", "cluster", "profile", "websocket" (in this order) to URLs; empty ones are left
    out. The file appears whole: whoever waits for it never reads half of it.
    """
    import json

    path = ports_file_path(directory)
    hidden = os.path.join(directory, f".{os.path.basename(path)}.tmp")
    data = json.dumps({name: list(urls) for name, urls in ports.items() if urls}, separators=(",", ":")).encode()
    try:
        _write_file(hidden, data, PORTS_FILE_MODE)
        os.replace(hidden, path)
    except FileError as error:
        raise FileError(str(error).replace(hidden, path)) from None
    except OSError as error:
        raise FileError(path_error("open", path, error)) from None
    return path


def remove_ports_file(directory: str) -> None:
    """Raises FileError, also where the file has already gone."""
    path = ports_file_path(directory)
    try:
        os.unlink(path)
    except OSError as error:
        raise FileError(path_error("remove", path, error)) from None


def listener_urls(scheme: str, host: str, port: int) -> list[str]:
    """The URLs under which a listener bound to the address `host` is reached: an unspecified one on every interface's
    address.
    """
    hosts = interface_addresses() if host in ("0.0.0.0", "::") else [host]
    return [f"{scheme}://{join_host_port(address, port)}" for address in hosts or [host]]


def join_host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# --- interface addresses

_NETLINK_ROUTE = 0
_RTM_GETADDR = 22
_NLM_F_REQUEST_DUMP = 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_NETLINK_TIMEOUT_S = 1.0
_NLMSGHDR = struct.Struct("=IHHII")
_IFADDRMSG = struct.Struct("=BBBBI")
_RTATTR = struct.Struct("=HH")


def interface_addresses() -> list[str]:
    """Every IP address of this machine, by interface, IPv4 before IPv6. Empty where the system doesn't tell."""
    if not hasattr(socket, "AF_NETLINK"):
        return []
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE) as netlink:
            netlink.settimeout(_NETLINK_TIMEOUT_S)
            request = _IFADDRMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
            size = _NLMSGHDR.size + len(request)
            netlink.send(_NLMSGHDR.pack(size, _RTM_GETADDR, _NLM_F_REQUEST_DUMP, 1, 0) + request)
            found = _read_addresses(netlink)
    except OSError:
        return []
    found.sort(key=lambda entry: entry[0])
    return [address for _, address in found]


def _read_addresses(netlink: socket.socket) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    while True:
        data = netlink.recv(65536)
        at = 0
        while at + _NLMSGHDR.size <= len(data):
            size, kind = _NLMSGHDR.unpack_from(data, at)[:2]
            if kind in (_NLMSG_DONE, _NLMSG_ERROR) or size < _NLMSGHDR.size:
                return found
            entry = _read_address(data[at + _NLMSGHDR.size : at + size])
            if entry is not None:
                found.append(entry)
            at += (size + 3) & ~3


def _read_address(message: bytes) -> tuple[int, str] | None:
    """(interface index, address) of one netlink message.

    On a point-to-point link the own address is the "local" one.
    """
    family, _, _, _, index = _IFADDRMSG.unpack_from(message)
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    raw: dict[int, bytes] = {}
    at = _IFADDRMSG.size
    while at + _RTATTR.size <= len(message):
        size, kind = _RTATTR.unpack_from(message, at)
        if size < _RTATTR.size:
            break
        raw[kind] = message[at + _RTATTR.size : at + size]
        at += (size + 3) & ~3
    address = raw.get(_IFA_LOCAL) or raw.get(_IFA_ADDRESS)
    return (index, socket.inet_ntop(family, address)) if address else None


def is_global_unicast(address: str) -> bool:
    """net.IP.IsGlobalUnicast: whether INFO's connect_urls may name it (private addresses count)."""
    if ":" not in address:
        first, second = (int(part) for part in address.split(".")[:2])
        reserved = address in ("0.0.0.0", "255.255.255.255") or first == 127 or 224 <= first <= 239
        return not reserved and (first, second) != (169, 254)
    raw = socket.inet_pton(socket.AF_INET6, address)
    link_local = raw[0] == 0xFE and raw[1] & 0xC0 == 0x80
    return raw[0] != 0xFF and not link_local and raw not in (b"\0" * 16, b"\0" * 15 + b"\1")


# --- signals


def signal_servers(
    request: str, *, proc: str = "/proc", kill: Callable[[int, int], None] = os.kill, own_pid: int | None = None
) -> None:
    """Carries out `--signal request`: a command, or command=pid, where pid is a number, a pid file, or a prefix and
    "*".

    Raises SignalError. `proc`, `kill` and `own_pid` stand for the system in tests.
    """
    command, *targets = request.split("=")
    if len(targets) > 1:
        raise SignalError(f"invalid signal parameters: [{' '.join(targets[1:])}]")
    target = _read_pid_file(targets[0]) if targets else ""
    prefix = target.removesuffix("*")
    is_glob = prefix != target
    pids = [_parse_pid(prefix)] if prefix else []
    if is_glob or not prefix:
        pids = server_pids(proc, os.getpid() if own_pid is None else own_pid)
    if len(pids) > 1 and not is_glob:
        raise SignalError(f"multiple {SERVER_NAME} processes running:" + "".join(f"\n{pid}" for pid in pids))
    if not pids:
        raise SignalError(f"no {SERVER_NAME} processes running")
    number = _signal_number(command)
    failures = ""
    for pid in pids:
        if is_glob and not str(pid).startswith(prefix):
            continue
        try:
            kill(pid, number)
        except OSError as error:
            failures += f'\nsignal "{command}" {pid}: {errno_text(error)}'
    if failures:
        raise SignalError(failures)


def _signal_number(command: str) -> int:
    import signal

    name = _COMMANDS.get(command)
    if name is None:
        from natsc.config.gotext import quote

        raise SignalError(f"unknown signal {quote(command)}")
    return int(signal.Signals[name])


def _read_pid_file(target: str) -> str:
    """What stands in the file `target`, or `target` itself where it is no file that can be read."""
    try:
        with open(target, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(4096)
    except (OSError, ValueError):
        return target


def _parse_pid(text: str) -> int:
    """Raises SignalError for what is no pid. kill(2) takes 0 and negative numbers for groups of processes: they are no
    pid.
    """
    from natsc.config.gotext import GoError, atoi

    try:
        pid = atoi(text)
    except GoError:
        pid = 0
    if pid <= 0:
        raise SignalError(f"invalid pid: {text}")
    return pid


def server_pids(proc: str, own_pid: int) -> list[int]:
    """The pids of running servers, natsc's and nats-server's, in ascending order, without `own_pid`.

    Raises SignalError.
    """
    try:
        entries = os.listdir(proc)
    except OSError:
        raise SignalError("unable to resolve pid, try providing one") from None
    pids = sorted(int(entry) for entry in entries if entry.isdigit())
    return [pid for pid in pids if pid != own_pid and _is_server(_command_line(proc, pid))]


def _command_line(proc: str, pid: int) -> list[str]:
    try:
        with open(f"{proc}/{pid}/cmdline", "rb") as file:
            raw = file.read(65536)
    except OSError:
        return []  # Gone meanwhile, or another user's and hidden.
    return raw.decode("utf-8", "surrogateescape").rstrip("\0").split("\0")


def _is_server(command: Sequence[str]) -> bool:
    """A binary by its name; a script by the name of the file that the interpreter runs, or by `-m natsc`."""
    names = (SERVER_NAME, OWN_NAME)
    if os.path.basename(command[0] if command else "") in names:
        return True
    if not command or not os.path.basename(command[0]).startswith("python"):
        return False
    words = iter(command[1:])
    for word in words:
        if word == "-m":
            return next(words, "") == OWN_NAME
        if word in ("-W", "-X"):
            next(words, None)
        elif not word.startswith("-"):
            return os.path.basename(word) in names
    return False
