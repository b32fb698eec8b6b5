"""The command line: nats-server's flags, nats-server's answers.

A run reads its flags, then the configuration file, lays the flags over it, opens the log and hands both to the server.
Each step imports what it needs when it gets there, so that `-v` or a wrong flag costs little more than the interpreter.
"""

from __future__ import annotations

import os
import sys

from natsc import flags as flag_table
from natsc import goflag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from natsc.config import Options
    from natsc.flags import Flags
    from natsc.server.log import Log

VERSION = "2.15.1"

_PROG = "nats-server"

_STDOUT = 1
_STDERR = 2


class _Exit(Exception):
    """Ends the run before there is a server: the exit code, and what is left to say on stderr."""

    def __init__(self, code: int, message: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def main(argv: Sequence[str] | None = None, prog: str = _PROG) -> int:
    """Runs natsc with the arguments `argv` (sys.argv's, unless given) and returns the exit code.

    `prog` is the name under which errors are reported; tools expect nats-server's.
    """
    args = sys.argv[1:] if argv is None else list(argv)
    if args[:1] in (["fsck"], ["compact"]):
        from natsc.jetstream import storetools

        return storetools.main(args[0], args[1:])
    try:
        opts = _configure(args)
        if argv is None:
            sys.argv[:] = flag_table.redact(sys.argv)
        return _serve(opts, _open_log(opts))
    except _Exit as end:
        if end.message:
            _write(_STDERR, f"{prog}: {end.message}\n")
        return end.code
    except goflag.FlagError as error:
        # nats-server's usage function exits with 0 whatever brought it up.
        from natsc import usage

        _write(_STDERR, f"{error}\n")
        _write(_STDOUT, usage.USAGE)
        return 0
    except KeyboardInterrupt:
        return 130  # before the server took the signals over


def _serve(opts: Options, log: Log) -> int:
    from natsc.server import process, run

    process.set_process_name()
    if opts.unsupported:
        log.warn(f"Not available in natsc yet, ignored: {', '.join(opts.unsupported)}")
    try:
        return run(opts, log)
    except Exception as error:
        # The traceback goes to stderr; a log that is elsewhere must tell as well.
        log.write("FTL", f"Unexpected failure: {type(error).__name__}: {error}")
        raise
    finally:
        log.close()


def _configure(args: Sequence[str]) -> Options:
    """The options of a run, ready for a server. Raises _Exit where the run ends before one, goflag.FlagError."""
    flags, rest = goflag.parse(flag_table.KINDS, args)
    _answer_questions(flags, rest)
    _send_signal(flags)
    opts = _read_options(flags)
    from natsc.config import ConfigError, set_baseline_options, validate_options

    try:
        flag_table.apply(opts, flags)
        set_baseline_options(opts)
        validate_options(opts)
        if opts.system_account:
            from natsc.config.validate import check_system_account

            check_system_account(opts)
    except ConfigError as error:
        raise _Exit(1, str(error)) from None
    opts.unsupported.extend(flag_table.unsupported(flags))
    if opts.refused:
        raise _Exit(1, _refusal(opts))
    return opts


def _answer_questions(flags: Flags, rest: Sequence[str]) -> None:
    """Version and help, in nats-server's order of precedence."""
    last = flag_table.last
    word = rest[0] if rest else ""
    if last(flags, "v", "version"):
        _print_version()
    if last(flags, "h", "help"):
        _print_usage()
    if flags.get("help_tls"):
        from natsc import usage

        _write(_STDOUT, usage.tls_help())
        raise _Exit(0)
    if word.lower() == "version":
        _print_version()
    if word.lower() == "help":
        _print_usage()
    if rest:
        from natsc.config.gotext import quote

        raise _Exit(1, f"unrecognized command: {quote(word)}")


def _print_version() -> None:
    from natsc import __version__

    # Tools read the first line, people the second.
    _write(_STDOUT, f"nats-server: v{VERSION}\nnatsc: v{__version__}\n")
    raise _Exit(0)


def _print_usage() -> None:
    from natsc import usage

    _write(_STDOUT, usage.USAGE)
    raise _Exit(0)


def _send_signal(flags: Flags) -> None:
    request = flag_table.last(flags, "sl", "signal")
    if not request:
        return
    from natsc.server import process

    try:
        process.signal_servers(str(request))
    except process.SignalError as error:
        raise _Exit(1, str(error)) from None
    raise _Exit(0)


def _read_options(flags: Flags) -> Options:
    """Options from the configuration file, with what the flags say below it, or only that. Ends the run for -t.

    The flags come first as well as last: some directives look at what is already set.
    """
    from natsc.config import ConfigError, Options

    opts = Options()
    flag_table.assign(opts, flags)
    path = str(flag_table.last(flags, "c", "config") or "")
    if not path:
        if opts.check_config:
            raise _Exit(1, "must specify [-c, --config] option to check configuration file syntax")
        return opts
    from natsc.config import process_config_file

    try:
        process_config_file(path, opts)
    except ConfigError as error:
        raise _Exit(1, str(error)) from None
    warnings = "".join(f"{warning}\n" for warning in opts.warnings)
    if not opts.check_config:
        _write(_STDERR, warnings)
        return opts
    if warnings:
        raise _Exit(1, warnings)
    message = f"configuration file {path} is valid ({opts.config_digest})"
    if opts.refused:
        message += f"\n{_PROG}: but {_refusal(opts)}"
    raise _Exit(0, message)


def _refusal(opts: Options) -> str:
    return (
        f"natsc cannot enforce yet: {', '.join(opts.refused)}. "
        "It does not start, rather than serve without what restricts access or protects data"
    )


def _open_log(opts: Options) -> Log:
    from natsc.server.log import Log, LogError

    try:
        return Log(opts)
    except LogError as error:
        import time

        # Go's standard logger speaks here, before there is a server's one.
        _write(_STDERR, f"{time.strftime('%Y/%m/%d %H:%M:%S')} {error}\n")
        raise _Exit(1) from None


def _write(fd: int, text: str) -> None:
    """Writes without sys.stdout: nothing buffered, nothing left to fail at exit.

    A reader that went away is no error.
    """
    data = text.encode("utf-8", "surrogateescape")
    try:
        while data:
            data = data[os.write(fd, data) :]
    except BrokenPipeError:
        return
