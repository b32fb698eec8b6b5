"""A plain store that gets an encryption key: its contents move into an encrypted one, which takes its place.

The new store is written beside the old one and replaces it when it is whole and on disk, by one rename: what stops it
before leaves the old one as it was. The disk needs room for both.
"""

from __future__ import annotations

import os
import shutil

from natsc.errors import StoreError
from natsc.jetstream.failpoint import here as failpoint
from natsc.jetstream.store import DIRECTORY, PlainStoreError, Store, sync_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from natsc.jetstream.filestore import FileStore

PENDING_MAX = 16 << 20  # bytes on their way to the new store


def open_encrypted(
    store_dir: str, log: Callable[[str], None], *, sync_interval_ns: int = 0, key: str, old_key: str = "",
    cipher: str = "",
) -> Store:  # fmt: skip
    """The store of a directory, encrypted if it wasn't yet: that is logged. Raises StoreError."""
    try:
        return Store(store_dir, sync_interval_ns=sync_interval_ns, key=key, old_key=old_key, cipher=cipher)
    except PlainStoreError:
        encrypt(store_dir, log, key=key, cipher=cipher)
    return Store(store_dir, sync_interval_ns=sync_interval_ns, key=key, cipher=cipher)


def encrypt(store_dir: str, log: Callable[[str], None], *, key: str, cipher: str) -> None:
    """Encrypts a store that nobody has open."""
    old = Store(store_dir)
    work = os.path.join(old.directory, "encrypting")
    lost = 0
    try:
        new = Store(work, key=key, cipher=cipher, store_id=old.store_id)
        try:
            for name, value in old.meta_items():
                new.meta_put(name, value)
            for account, stream in old.stream_names():
                log(f"  Encrypting stream '{account} > {stream}'")
                lost += _copy(old.open_stream(account, stream), new.open_stream(account, stream))
        finally:
            new.close()
        failpoint("encrypt.copied")
        _replace(old.directory, os.path.join(work, DIRECTORY), keep=lost > 0)
    finally:
        old.close()
        shutil.rmtree(work, ignore_errors=True)
    if lost:
        log(f"  {lost:,} damaged messages could not be encrypted: the plain store is kept as data.mdb.plain")


def _copy(old: FileStore, new: FileStore) -> int:
    """Copies a stream. How many of its messages are damaged."""
    seq = 0
    while True:
        found, _ = old.next_bytes(seq + 1)
        if found is None:
            break
        seq, ts_ns, subject, headers, body = found
        new.append_bytes(subject, body, headers, ts_ns, seq)
        if new.store.pending_bytes > PENDING_MAX:
            new.store.wait_durable()
            old.store.end_turn()
    new.skip(old.last_seq + 1, old.last_ts_ns)
    for key, value in old.consumer_items():
        new.consumer_put_bytes(key, value)
    new.store.wait_durable()
    old.store.end_turn()
    return len(old.lost)


def _replace(directory: str, new: str, *, keep: bool) -> None:
    data = os.path.join(directory, "data.mdb")
    plain = data + ".plain"
    if keep and not (os.path.exists(plain) and os.path.samefile(data, plain)):  # an attempt that was stopped may have
        if os.path.lexists(plain):
            raise StoreError(f"{plain!r} is in the way of what is damaged in the plain store: move it elsewhere")
        os.link(data, plain)
    os.replace(os.path.join(new, "data.mdb"), data)
    failpoint("encrypt.replaced")
    os.replace(os.path.join(new, "key"), os.path.join(directory, "key"))
    sync_directory(directory)
