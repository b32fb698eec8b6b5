"""Account JWTs in a directory, as nats-server lays them out: <directory>/<account>.jwt.

So a directory can go from one server to the other. What is in it is known by the hash of each file; their exclusive or
says whether two stores hold the same. A full store (of a `full` resolver) takes no more than `limit` accounts; a cache
makes room by forgetting the one that wasn't asked for longest. Entries end with their JWT's expiry, or with a time to
live where there is one.

The names of files are made from public keys alone, checked before they get here or here: nothing else reaches a path.
"""

from __future__ import annotations

import os
from collections import OrderedDict

from natsc.auth import jwt
from natsc.config import keys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEEP, RENAME, REMOVE = "keep", "rename", "remove"  # what deleting an account does with its file
_SUFFIX = ".jwt"
_FILE_MODE, _DIRECTORY_MODE = 0o640, 0o750
_NEVER = 1 << 63
_SECOND = 1_000_000_000
_SIZE_MAX = 4 * jwt.SIZE_MAX  # of a file: a bigger one isn't read


class StoreError(Exception):
    """Nothing was stored or deleted; str() is why."""


class _Entry:
    """What is known of a stored JWT. expires_ns: wall clock."""

    __slots__ = ("digest", "expires_ns")

    def __init__(self, digest: bytes, expires_ns: int) -> None:
        self.digest = digest
        self.expires_ns = expires_ns


class DirStore:
    """changed, deleted: called with an account whose JWT was stored or deleted."""

    def __init__(
        self, directory: str, wall_ns: Callable[[], int], *, limit: int = 0, evict: bool = False, ttl_ns: int = 0,
        on_delete: str = KEEP,
    ) -> None:  # fmt: skip
        """limit: accounts, 0 is none. Raises OSError where the directory can't be made or read."""
        self.directory = os.path.abspath(directory)
        self.on_delete = on_delete
        self.changed: Callable[[str], object] | None = None
        self.deleted: Callable[[str], object] | None = None
        self._wall_ns = wall_ns
        self._limit = limit
        self._evict = evict
        self._ttl_ns = ttl_ns
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # the one used longest ago first
        os.makedirs(self.directory, _DIRECTORY_MODE, exist_ok=True)
        for key, path in self._files():
            token = _read(path)
            if token:
                self._track(key, token)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def check_seconds(self) -> float:
        """How often expire() should be called."""
        return min(60.0, self._ttl_ns / 2 / _SECOND) if self._ttl_ns else 60.0

    def load(self, key: str) -> str | None:
        """The JWT of an account; None where there is none."""
        path = self._path(key)
        token = _read(path) if path else None
        if token is not None:
            self._touch(key)
        return token

    def save(self, key: str, token: str) -> None:
        """Stores a JWT, over the one there is. Raises StoreError."""
        path = self._path(key)
        if not path:
            raise StoreError("invalid public key")
        if not token:
            raise StoreError("invalid JWT")
        entry = self._entries.get(key)
        if entry is not None:
            self._touch(key)
            if entry.digest == _digest(token):
                return
        elif self._limit and len(self._entries) >= self._limit:
            self._make_room()
        try:
            _write(path, token)
        except OSError as error:
            raise StoreError(str(error)) from None
        self._track(key, token)
        if self.changed is not None:
            self.changed(key)

    def save_if_newer(self, key: str, token: str) -> None:
        """Stores a JWT unless the one there is was issued later. Raises StoreError."""
        path = self._path(key)
        if not path:
            raise StoreError("invalid public key")
        present = _read(path)
        if present is not None:
            try:
                new = jwt.decode_generic(token)
            except jwt.JWTError as error:
                raise StoreError(str(error)) from None
            try:
                old = jwt.decode_generic(present)
            except jwt.JWTError:
                old = None  # whatever it is, the new one is better
            if old is not None:
                if old.jti == new.jti or old.iat > new.iat:
                    return
                if new.sub != key:
                    raise StoreError("jwt subject nkey and provided nkey do not match")
        self.save(key, token)

    def delete(self, key: str) -> None:
        """Raises StoreError. Nothing happens where there is no such account."""
        if self.on_delete == KEEP:
            raise StoreError("store is not set up to for delete")
        path = self._path(key)
        try:
            if self.on_delete == RENAME:
                os.rename(path, path + ".deleted")
            else:
                os.remove(path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(str(error)) from None
        self._entries.pop(key, None)
        if self.deleted is not None:
            self.deleted(key)

    def reload(self) -> None:
        """Looks again at what is in the directory; of a cache, all there is counts as changed."""
        before = dict(self._entries)
        self._entries.clear()
        for key, path in self._files():
            token = _read(path)
            if not token:
                continue
            self._track(key, token)
            known = before.get(key)
            is_news = self._evict if known is None else known.digest != self._entries[key].digest
            if is_news and self.changed is not None:
                self.changed(key)

    def expire(self) -> None:
        """Removes what has come to its end."""
        now = self._wall_ns()
        for key in [key for key, entry in self._entries.items() if entry.expires_ns <= now]:
            try:
                os.remove(self._path(key))
            except OSError:
                continue  # it is tried again
            del self._entries[key]

    def hash(self) -> bytes:
        """The same for stores that hold the same."""
        total = 0
        for entry in self._entries.values():
            total ^= int.from_bytes(entry.digest, "big")
        return total.to_bytes(32, "big")

    def pack(self) -> Iterator[tuple[str, str]]:
        """(account, JWT) of all that haven't expired."""
        now = self._wall_ns() // _SECOND
        for key, path in self._files():
            token = _read(path) if key in self._entries else None
            if not token:
                continue
            try:
                expires = jwt.decode_generic(token).exp
            except jwt.JWTError:
                expires = 0
            if not 0 < expires < now:
                yield key, token

    def merge(self, pack: str) -> None:
        """Takes over a line "account|JWT" of another store, or several. Raises StoreError at the first that is bad."""
        for line in filter(None, pack.split("\n")):
            key, bar, token = line.partition("|")
            if not bar or "|" in token:
                raise StoreError("line in package didn't contain 2 entries")
            if not keys.is_public_key(key, keys.PREFIX_ACCOUNT):
                raise StoreError("key to merge is not a valid public account key")
            self.save_if_newer(key, token)

    def _files(self) -> Iterator[tuple[str, str]]:
        """(account, path) of the files, in order."""
        for name in sorted(os.listdir(self.directory)):
            key = name.removesuffix(_SUFFIX)
            if key != name and keys.is_public_key(key, keys.PREFIX_ACCOUNT):
                yield key, os.path.join(self.directory, name)

    def _path(self, key: str) -> str:
        """Where an account's JWT is; "" for what is no key."""
        return os.path.join(self.directory, key + _SUFFIX) if keys.is_public_key(key) else ""

    def _make_room(self) -> None:
        if not self._evict:
            raise StoreError("jwt store is full")
        oldest = next(iter(self._entries))
        try:
            os.remove(self._path(oldest))
        except OSError as error:
            raise StoreError(str(error)) from None
        del self._entries[oldest]

    def _touch(self, key: str) -> None:
        entry = self._entries.get(key)
        if entry is None:
            return
        if self._ttl_ns:
            entry.expires_ns = self._wall_ns() + self._ttl_ns
        self._entries.move_to_end(key)

    def _track(self, key: str, token: str) -> None:
        expires = _NEVER
        if self._ttl_ns:
            expires = self._wall_ns() + self._ttl_ns
        else:
            try:
                expires = jwt.decode_generic(token).exp * _SECOND or _NEVER
            except jwt.JWTError:
                expires = _NEVER  # no token: it harms nobody here, and says no time
        self._entries[key] = _Entry(_digest(token), expires)
        self._entries.move_to_end(key)


def _digest(token: str) -> bytes:
    from hashlib import sha256

    return sha256(token.encode("utf-8", "surrogateescape")).digest()


def _read(path: str) -> str | None:
    """None where there is no such file, or it can't be read."""
    try:
        with open(path, "rb") as file:
            data = file.read(_SIZE_MAX + 1)
    except OSError:
        return None
    return data.decode("utf-8", "surrogateescape") if len(data) <= _SIZE_MAX else None


def _write(path: str, token: str) -> None:
    """Whole or not at all."""
    partial = f"{path}.{os.getpid()}"
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _FILE_MODE)
    try:
        with open(descriptor, "wb") as file:
            file.write(token.encode("utf-8", "surrogateescape"))
        os.replace(partial, path)
    except OSError:
        os.unlink(partial)
        raise
