"""What each command line flag sets, and how flags win over the configuration file.

The flags of a run stay in Options.in_cmdline, and are laid over the options again each time the configuration file is
read again.
"""

from __future__ import annotations

from natsc.goflag import BOOL, INT, STRING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from natsc.config import ConfigError, Options
    from natsc.config.options import URL
    from natsc.goflag import FlagValue

    Flags = Mapping[str, FlagValue]

# name: (kind, attribute of Options; "" for the flags that cli.py and apply read themselves)
FLAGS: dict[str, tuple[str, str]] = {
    "h": (BOOL, ""),
    "help": (BOOL, ""),
    "p": (INT, "port"),
    "port": (INT, "port"),
    "n": (STRING, "server_name"),
    "name": (STRING, "server_name"),
    "server_name": (STRING, "server_name"),
    "a": (STRING, "host"),
    "addr": (STRING, "host"),
    "net": (STRING, "host"),
    "client_advertise": (STRING, "client_advertise"),
    "D": (BOOL, "debug"),
    "debug": (BOOL, "debug"),
    "V": (BOOL, "trace"),
    "trace": (BOOL, "trace"),
    "VV": (BOOL, ""),
    "DV": (BOOL, ""),
    "DVV": (BOOL, ""),
    "T": (BOOL, "logtime"),
    "logtime": (BOOL, "logtime"),
    "logtime_utc": (BOOL, "logtime_utc"),
    "user": (STRING, "username"),
    "pass": (STRING, "password"),
    "auth": (STRING, "authorization"),
    "m": (INT, "http_port"),
    "http_port": (INT, "http_port"),
    "ms": (INT, "https_port"),
    "https_port": (INT, "https_port"),
    "c": (STRING, ""),
    "config": (STRING, ""),
    "t": (BOOL, "check_config"),
    "sl": (STRING, ""),
    "signal": (STRING, ""),
    "P": (STRING, "pid_file"),
    "pid": (STRING, "pid_file"),
    "ports_file_dir": (STRING, "ports_file_dir"),
    "l": (STRING, "log_file"),
    "log": (STRING, "log_file"),
    "log_size_limit": (INT, "log_size_limit"),
    "s": (BOOL, "syslog"),
    "syslog": (BOOL, "syslog"),
    "r": (STRING, "remote_syslog"),
    "remote_syslog": (STRING, "remote_syslog"),
    "v": (BOOL, ""),
    "version": (BOOL, ""),
    "profile": (INT, "prof_port"),
    "routes": (STRING, "routes_str"),
    "cluster": (STRING, "cluster.listen_str"),
    "cluster_listen": (STRING, "cluster.listen_str"),
    "cluster_advertise": (STRING, "cluster.advertise"),
    "no_advertise": (BOOL, "cluster.no_advertise"),
    "connect_retries": (INT, "cluster.connect_retries"),
    "cluster_name": (STRING, "cluster.name"),
    "help_tls": (BOOL, ""),
    "tls": (BOOL, "tls"),
    "tlsverify": (BOOL, "tls_verify"),
    "tlscert": (STRING, "tls_cert"),
    "tlskey": (STRING, "tls_key"),
    "tlscacert": (STRING, "tls_ca_cert"),
    "max_traced_msg_len": (INT, "max_traced_msg_len"),
    "js": (BOOL, "jetstream"),
    "jetstream": (BOOL, "jetstream"),
    "sd": (STRING, "store_dir"),
    "store_dir": (STRING, "store_dir"),
}

KINDS: dict[str, str] = {name: kind for name, (kind, _) in FLAGS.items()}

# Flags that are taken and checked, but whose feature natsc does not have yet: named in a warning at start.
_UNSUPPORTED = frozenset(
    (
        "profile",
        "routes",
        "cluster",
        "cluster_listen",
        "cluster_advertise",
        "cluster_name",
        "no_advertise",
        "connect_retries",
    )
)

_SECRET = frozenset(("user", "pass", "auth"))
_URLS = frozenset(("routes", "cluster", "cluster_listen"))


def last(flags: Flags, *names: str) -> FlagValue | None:
    """The value of the last of `flags` with one of `names` (aliases of one flag), or None where none was given."""
    value: FlagValue | None = None
    for name in flags:
        if name in names:
            value = flags[name]
    return value


def unsupported(flags: Flags) -> list[str]:
    """The given flags that configure what natsc does not have, as written on the command line."""
    return [f"-{name}" for name, value in flags.items() if value and name in _UNSUPPORTED]


def assign(opts: Options, flags: Flags) -> None:
    """Sets the option of each flag that has one of its own."""
    for name, value in flags.items():
        path = FLAGS[name][1]
        if path:
            owner, _, attribute = path.rpartition(".")
            setattr(getattr(opts, owner) if owner else opts, attribute, value)


def apply(opts: Options, flags: Flags) -> None:
    """Lays `flags` over `opts`, which hold defaults or what the configuration file said. Raises ConfigError.

    Keeps them in opts.in_cmdline, for `read_again`.
    """
    opts.in_cmdline = dict(flags)
    assign(opts, flags)
    # nats-server visits the flags by name, whatever their order: -DV=false undoes a -D after it too.
    for name in sorted(flags):
        value = flags[name]
        if name == "VV":
            opts.trace = opts.trace_verbose = bool(value)
        elif name == "DVV":
            opts.trace = opts.debug = opts.trace_verbose = bool(value)
        elif name == "DV":
            opts.trace = opts.debug = bool(value)
        elif name in ("cluster", "cluster_listen"):
            _set_cluster(opts)
        elif name == "routes":
            opts.routes = _routes(opts.routes_str)
    _set_tls(opts, flags)
    cluster = opts.cluster
    if opts.routes_str and not cluster.listen_str and not cluster.host and not cluster.port:
        raise _conflict("solicited routes require cluster capabilities, e.g. --cluster")


def read_again(opts: Options) -> Options:
    """For a reload: what the file of `opts` says now, and the same flags over it. Raises ConfigError.

    Defaults are not filled in and nothing is validated yet.
    """
    from natsc.config import process_config_file

    fresh = process_config_file(opts.config_file)
    apply(fresh, opts.in_cmdline)
    return fresh


def _conflict(text: str) -> ConfigError:
    """Flags that don't fit together, or name something unusable."""
    from natsc.config import ConfigError

    return ConfigError(text)


def _set_cluster(opts: Options) -> None:
    """Takes host, port, user and password from the URL of --cluster; an empty one turns clustering off."""
    from natsc import gourl
    from natsc.config.goaddress import split_host_port
    from natsc.config.gotext import GoError

    cluster = opts.cluster
    if not cluster.listen_str:
        cluster.port = 0
        return
    random_port = cluster.listen_str.endswith(":-1")
    if random_port:
        cluster.listen_str = cluster.listen_str[:-3] + ":0"
    try:
        url = gourl.parse(cluster.listen_str)
        host, port = split_host_port(url.host)
    except GoError as error:
        raise _conflict(str(error)) from None
    if not port:
        raise _conflict("EOF")
    cluster.host = host
    cluster.port = -1 if random_port else _port(port)
    if url.user is None:
        cluster.username = cluster.password = ""
        return
    if url.password is None:
        raise _conflict("expected cluster password to be set")
    cluster.username, cluster.password = url.user, url.password


def _port(text: str) -> int:
    from natsc.config import gotext

    try:
        return gotext.parse_int(text)
    except gotext.GoError as error:
        raise _conflict(str(error)) from None


def _routes(text: str) -> list[URL]:
    if not text:
        return []
    from natsc.config.gotext import GoError
    from natsc.config.urls import parse_url

    try:
        return [parse_url(route, "route") for route in text.split(",")]
    except GoError as error:
        raise _conflict(str(error)) from None


def _set_tls(opts: Options, flags: Flags) -> None:
    """Replaces the TLS of the configuration file by that of the flags; -tls=false turns TLS off."""
    given = [name for name in flags if name.startswith("tls")]
    if not given:
        return
    if flags.get("tls") is False:
        opts.tls_config = None
        return
    if not opts.tls_cert:
        raise _conflict("TLS Server certificate must be present and valid")
    if not opts.tls_key:
        raise _conflict("TLS Server private key must be present and valid")
    from natsc.config.directives_tls import load
    from natsc.config.options import TLSConfigOpts

    config = TLSConfigOpts(
        cert_file=opts.tls_cert, key_file=opts.tls_key, ca_file=opts.tls_ca_cert, verify=opts.tls_verify
    )
    load(config)
    opts.tls_config = config


def redact(args: Sequence[str]) -> list[str]:
    """A copy of the command line `args` without its secrets, fit to be shown by monitoring."""
    shown = list(args)
    for at, arg in enumerate(args):
        name = arg.lstrip("-").partition("=")[0]
        if not 1 <= len(arg) - len(arg.lstrip("-")) <= 2 or name not in _SECRET | _URLS:
            continue
        hide = _hide_user if name in _URLS else _hide
        flag, equals, value = arg.partition("=")
        if equals:
            shown[at] = f"{flag}={hide(value)}"
        elif at + 1 < len(args):
            shown[at + 1] = hide(args[at + 1])
    return shown


def _hide(_value: str) -> str:
    return "[REDACTED]"


def _hide_user(urls: str) -> str:
    """Hides user and password of each of the comma-separated `urls`."""
    return ",".join(_hide_one_user(url) for url in urls.split(","))


def _hide_one_user(url: str) -> str:
    scheme, slashes, rest = url.partition("//")
    authority, slash, path = rest.partition("/")
    host = authority.rpartition("@")[2]
    return url if host == authority else f"{scheme}{slashes}[REDACTED]@{host}{slash}{path}"
