"""`natsc fsck STORE` and `natsc compact STORE`: what a store directory holds, and how to make its file smaller.

Both need the store for themselves: they take the lock that a server takes. Exit codes: 0 all is well, 1 something is
damaged (fsck), 2 it couldn't be done.
"""

from __future__ import annotations

import os
import shutil
import sys

from natsc.jetstream.failpoint import here as failpoint
from natsc.jetstream.store import StoreError, data_path, foreign_streams, foreign_text, lock_directory, sync_directory
from natsc.jetstream.syncpoint import forget, is_behind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from natsc.jetstream.storefile import StoreFile

    Key = tuple[str, str]  # as configured: key, prev_key

TOOLS = ("fsck", "compact")
WELL, DAMAGED, FAILED = 0, 1, 2

_KEY_USAGE = """
The key of an encrypted store is never an argument. One of these has it:

  -c, --config FILE  the server's configuration: its key and prev_key, and its store_dir where no STORE is named
  --key-file FILE    a file with nothing but the key
"""
_USAGE = {
    "fsck": f"""usage: natsc fsck [--json] [--export DIR] [-c FILE | --key-file FILE] [STORE]

Verifies every record and index of a JetStream store: STORE is the store directory of a server that doesn't run.
Nothing in it is changed.

  --json        report as JSON
  --export DIR  write what is whole of each stream to DIR/<account>/<stream>, as `nats backup stream` does:
                `nats restore stream DIR/<account>/<stream>` brings it back, to natsc or to nats-server; what was
                encrypted in the store is plain there
{_KEY_USAGE}
Exit codes: 0 all is whole, 1 something is damaged, 2 the store couldn't be checked.
""",
    "compact": f"""usage: natsc compact [-c FILE | --key-file FILE] [STORE]

Rewrites the file of a JetStream store without the pages that aren't used: STORE is the store directory of a server
that doesn't run. The old file is replaced at once, when the new one is complete and on disk.
{_KEY_USAGE}
Exit codes: 0 done, 2 not done, and nothing changed.
""",
}
# Options with a value, by each of their names.
_VALUES = {"-c": "config", "--config": "config", "--key-file": "key file"}
_KEY_MAX = 65536


class ToolError(Exception):
    """It can't be done; the text says why."""


def main(tool: str, args: Sequence[str]) -> int:
    """Runs one of TOOLS. Returns the exit code."""
    store = ""
    try:
        options, store = _read_arguments(tool, args)
        if options.get("help"):
            print(_USAGE[tool], end="")
            return WELL
        key, store_dir = _read_key(options)
        store = store or store_dir
        if not store:
            raise ToolError(f"one store is to be named\n{_USAGE[tool]}")
        directory = find_store(store)
        lock = lock_directory(directory)
        try:
            if is_behind(directory):
                raise ToolError(
                    f"the machine has stopped since the store in {directory!r} was synced last (sync_interval): "
                    "the next start of the server brings it back to that"
                )
            if tool == "compact":
                return compact(directory, key)
            from natsc.jetstream.fsck import run

            return run(directory, key, as_json="json" in options, export_to=options.get("export"))
        finally:
            os.close(lock)
    except (ToolError, StoreError) as error:
        print(f"natsc {tool}: {error}", file=sys.stderr)
    except OSError as error:
        print(f"natsc {tool}: {error.filename or store}: {error.strerror}", file=sys.stderr)
    return FAILED


def _read_arguments(tool: str, args: Sequence[str]) -> tuple[dict[str, str], str]:
    """Options and the store, "" where none is named. Raises ToolError."""
    options: dict[str, str] = {}
    stores = []
    rest = list(args)
    values = {**_VALUES, "--export": "export"} if tool == "fsck" else _VALUES
    while rest:
        arg = rest.pop(0)
        name, _, value = arg.partition("=")
        if arg in ("-h", "--help"):
            return {"help": "yes"}, ""
        if tool == "fsck" and arg == "--json":
            options["json"] = "yes"
        elif name in values and (value or rest):
            options[values[name]] = value or rest.pop(0)
        elif arg.startswith("-"):
            raise ToolError(f"what is {arg!r}?\n{_USAGE[tool]}")
        else:
            stores.append(arg)
    if len(stores) > 1 or {"config", "key file"} <= options.keys():
        raise ToolError(f"one store is to be named, and one file with its key\n{_USAGE[tool]}")
    return options, "".join(stores)


def _read_key(options: dict[str, str]) -> tuple[Key, str]:
    """The key and the one before it, and the configured store directory; "" for what isn't given.

    Raises ToolError, OSError.
    """
    if "key file" in options:
        with open(options["key file"], "rb") as file:
            key = file.read(_KEY_MAX).rstrip(b"\r\n").decode("utf-8", "surrogateescape")
        if not key:
            raise ToolError(f"there is no key in {options['key file']}")
        return (key, ""), ""
    if "config" not in options:
        return ("", ""), ""
    from natsc.config import ConfigError, Options, process_config_file

    opts = Options()
    try:
        process_config_file(options["config"], opts)
    except ConfigError as error:
        raise ToolError(str(error)) from None
    return (opts.jetstream_key, opts.jetstream_old_key), opts.store_dir


def find_store(path: str) -> str:
    """The folder with data.mdb: of a store directory, or given itself. Raises ToolError."""
    for directory in (os.path.join(path, "natsc"), path):
        if os.path.isfile(os.path.join(directory, "data.mdb")):
            return directory
    foreign = foreign_streams(path)
    if foreign is not None:
        raise ToolError(foreign_text(path, foreign))
    raise ToolError(f"there is no store of natsc in {path}")


def compact(directory: str, key: Key) -> int:
    """Replace the file by a copy without free pages, which has the same in it. Raises ToolError, OSError; the old file
    is as it was then.
    """
    from natsc.jetstream.fsck import examine
    from natsc.jetstream.storefile import FileError, StoreFile

    path, fresh = data_path(directory), os.path.join(directory, "compact")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        file = StoreFile(directory)
        try:
            file.unlock(*key)
            before = examine(file)
            if not before.whole:
                raise ToolError(f"{path} is damaged: see `natsc fsck`")
            os.mkdir(fresh, 0o700)
            size = _copy(file, path, data_path(fresh))
        finally:
            file.close()
        copy = StoreFile(fresh, file.vault)
        try:
            after = examine(copy)
        finally:
            copy.close()
        if after.content() != before.content():
            raise ToolError("the copy isn't what the file is")
        _sync(path)
        forget(directory)
        failpoint("compact.copied")
        os.rename(data_path(fresh), path)
        failpoint("compact.replaced")
    except FileError as error:
        raise ToolError(str(error)) from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    sync_directory(directory)
    print(f"{path}: {size:,} bytes before, {os.path.getsize(path):,} after")
    return WELL


def _sync(path: str) -> None:
    """A server that synced at intervals may have left it to the kernel."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _copy(file: StoreFile, path: str, fresh: str) -> int:
    """Write the copy to disk, with the rights that the file has. The size that the file has."""
    old = os.stat(path)
    fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        file.copy_compact(fd)
        os.fchmod(fd, old.st_mode & 0o777)
        if os.geteuid() == 0:
            os.fchown(fd, old.st_uid, old.st_gid)
        os.fsync(fd)
    finally:
        os.close(fd)
    return old.st_size
