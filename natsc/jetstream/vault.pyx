"""Encryption at rest.

What is sealed: a letter for the cipher, the 16 random bytes of the run that sealed it, 8 bytes of that run's counter, and
the text with its tag. A run is from one opening of a store to its end; its key follows from the store's key, the cipher
and its random bytes, and its counter begins with 0 and is never kept. So a nonce is never used twice with a key: not
after a crash, for the next run has another key, and not when an old copy of a store is brought back.

Each text is bound to its place (context): a record to its stream and sequence, a value to its database and key. Moved
anywhere else, it doesn't open.

Names (of accounts, streams, consumers) become keys of databases by a keyed hash: equal names give equal keys, and
nobody without the store's key can tell or guess them.
"""

from os import urandom

from libc.stdint cimport uint64_t

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.string cimport memcpy

cdef enum:
    RUN_SIZE = 16
    HEAD_SIZE = 17          # cipher and run
    PREFIX_SIZE = 25        # and counter
    TAG_SIZE = 16
    RUNS_MAX = 4096         # keys of runs that are kept
    NAMES_MAX = 65536
    NAME_SIZE = 16

LETTERS = {"chacha": b"c", "aes": b"a"}
OVERHEAD = PREFIX_SIZE + TAG_SIZE


cdef class Vault:
    """key: the store's. cipher: "chacha" or "aes"; what the other one sealed opens too."""

    def __init__(self, bytes key not None, str cipher not None):
        from natsc.jetstream.storekey import derive

        self.cipher = cipher
        self.master = key
        self.names_key = derive(key, b"names")
        self.decrypts = {}
        self.hidden = {}
        self.head = LETTERS[cipher] + urandom(RUN_SIZE)
        self.encrypt = self.cipher_of(self.head).encrypt

    def cipher_of(self, bytes head):
        """What seals and opens under a head."""
        from natsc.jetstream.storekey import aead, derive

        cipher = "aes" if head[:1] == b"a" else "chacha"
        return aead(cipher, derive(self.master, b"run " + head))

    cdef bytes seal(self, bytes context, bytes plain):
        """plain, encrypted, for the place that context names."""
        cdef bytes nonce = PyBytes_FromStringAndSize(NULL, 12)
        cdef bytes sealed
        cdef char* p = PyBytes_AS_STRING(nonce)
        cdef uint64_t count = self.counter
        self.counter += 1
        memcpy(p, b"\0\0\0\0", 4)
        memcpy(p + 4, &count, 8)
        sealed = self.encrypt(nonce, plain, context)
        return self.head + nonce[4:] + sealed

    cdef bytes open(self, bytes context, bytes sealed):
        """What was sealed for that place; None where it was not, or isn't whole."""
        from cryptography.exceptions import InvalidTag

        if len(sealed) < PREFIX_SIZE + TAG_SIZE or sealed[:1] not in (b"a", b"c"):
            return None
        cdef bytes head = sealed[:HEAD_SIZE]
        decrypt = self.decrypts.get(head)
        if decrypt is None:
            if len(self.decrypts) >= RUNS_MAX:
                self.decrypts.clear()
            decrypt = self.decrypts[head] = self.cipher_of(head).decrypt
        try:
            return decrypt(b"\0\0\0\0" + sealed[HEAD_SIZE:PREFIX_SIZE], sealed[PREFIX_SIZE:], context)
        except InvalidTag:
            return None

    cdef bytes hide(self, bytes name):
        """What stands for a name: 16 bytes."""
        cdef bytes known = self.hidden.get(name)
        if known is None:
            if len(self.hidden) >= NAMES_MAX:
                self.hidden.clear()
            from hmac import digest     # late: a plain store needs no OpenSSL

            known = self.hidden[name] = digest(self.names_key, name, "sha256")[:NAME_SIZE]
        return known

    # For tests and tools.

    def seal_bytes(self, bytes context not None, bytes plain not None) -> bytes:
        return self.seal(context, plain)

    def open_bytes(self, bytes context not None, bytes sealed not None) -> bytes | None:
        return self.open(context, sealed)

    def hide_bytes(self, bytes name not None) -> bytes:
        return self.hide(name)
