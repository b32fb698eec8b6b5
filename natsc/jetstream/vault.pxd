# Encryption at rest: what a store encrypts and decrypts with.

from libc.stdint cimport uint64_t

cdef class Vault:
    cdef readonly str cipher        # "chacha" or "aes": of what is encrypted from now on
    cdef bytes master               # the store's key
    cdef bytes names_key
    cdef bytes head                 # of what this run seals: cipher and salt
    cdef object encrypt             # of this run's key
    cdef uint64_t counter           # of this run's nonces
    cdef dict decrypts              # head -> what opens it
    cdef dict hidden                # names that were hidden before

    cdef bytes seal(self, bytes context, bytes plain)
    cdef bytes open(self, bytes context, bytes sealed)
    cdef bytes hide(self, bytes name)
