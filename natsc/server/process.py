"""What a server leaves outside itself, and how another process reaches it: pid file, ports file, signals, process name.

Names are nats-server's, because tools look for them: a harness that starts a server waits for
`nats-server_<pid>.ports`.
"""

from __future__ import annotations

import os

from natsc.config.goaddress import join_host_port
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
    hosts = [host]
    if host in ("0.0.0.0", "::"):
        from natsc.server.interfaces import interface_addresses

        hosts = interface_addresses()
    return [f"{scheme}://{join_host_port(address, port)}" for address in hosts or [host]]


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
