"""Finds liblmdb and fills the table of its functions.

The `lmdb` package exports LMDB's C functions from its extension module; opening that file by path gives the very image
that the package itself would use, without importing the package. Where there is none, a system library serves. So
installing needs no compiler flags, and the storage worker needs no interpreter lock.

An environment must not be used in a process forked from the one that opened it: forks_seen() tells a child.
"""

from libc.stdint cimport uint64_t

cdef extern from "dlfcn.h" nogil:
    void* dlopen(const char* path, int flags)
    void* dlsym(void* handle, const char* name)
    char* dlerror()
    int RTLD_NOW

cdef extern from "pthread.h" nogil:
    int pthread_atfork(void (*prepare)() noexcept nogil, void (*parent)() noexcept nogil,
                       void (*child)() noexcept nogil)

cdef extern from *:
    """
    #include <setjmp.h>
    static __thread jmp_buf *natsc_trap;

    static void natsc_trap_spring(void) {
        if (natsc_trap)
            _longjmp(*natsc_trap, 1);
    }
    static int natsc_trapped(int (*fn)(void *), void *arg, int failed) {
        jmp_buf here, *outer = natsc_trap;
        int rc;
        if (_setjmp(here)) {
            natsc_trap = outer;
            return failed;
        }
        natsc_trap = &here;
        rc = fn(arg);
        natsc_trap = outer;
        return rc;
    }
    """
    void natsc_trap_spring() noexcept nogil
    int natsc_trapped(trapped_fn fn, void* arg, int failed) noexcept nogil

SYSTEM_LIBRARIES = ("liblmdb.so.0", "liblmdb.so", "liblmdb.dylib")

cdef uint64_t forks = 0
cdef bint loaded = False


cdef void count_fork() noexcept nogil:
    global forks
    forks += 1


cdef uint64_t forks_seen() noexcept nogil:
    """How many forks lie between the process that loaded this module and this one."""
    return forks


cdef void trap_assert(MDB_env* env, const char* text) noexcept nogil:
    """Called by LMDB before it ends the process."""
    natsc_trap_spring()


cdef int trapped(trapped_fn fn, void* arg) noexcept nogil:
    """fn(arg), or MDB_CORRUPTED where an assertion of LMDB's failed in it."""
    return natsc_trapped(fn, arg, MDB_CORRUPTED)


cdef struct get_t:
    MDB_cursor* cursor
    MDB_val* key
    MDB_val* value
    int op


cdef int call_get(void* arg) noexcept nogil:
    cdef get_t* g = <get_t*>arg
    return mdb.cursor_get(g.cursor, g.key, g.value, g.op)


cdef int cursor_get_trapped(MDB_cursor* c, MDB_val* k, MDB_val* v, int op) noexcept nogil:
    """mdb_cursor_get. After anything but 0 and MDB_NOTFOUND the cursor must be closed."""
    cdef get_t g
    g.cursor = c
    g.key = k
    g.value = v
    g.op = op
    return natsc_trapped(&call_get, &g, MDB_CORRUPTED)


def package_libraries() -> list[str]:
    """Paths of the lmdb package's extension modules, found without importing it."""
    from importlib.machinery import EXTENSION_SUFFIXES
    from importlib.util import find_spec
    from os import listdir

    spec = find_spec("lmdb")
    found = []
    if spec is not None:
        for directory in spec.submodule_search_locations or ():
            for name in sorted(listdir(directory)):
                if name.startswith("cpython") and name.endswith(tuple(EXTENSION_SUFFIXES)):
                    found.append(f"{directory}/{name}")
    return found


cdef void* find_symbol(void* handle, const char* prefix, str name) except? NULL:
    cdef bytes symbol = prefix + name.encode()
    cdef void* f = dlsym(handle, symbol)
    if f == NULL:
        raise ImportError(f"no {symbol.decode()}")
    return f


cdef int fill(void* handle, const char* prefix) except -1:
    mdb.version = <char* (*)(int*, int*, int*) noexcept nogil>find_symbol(handle, prefix, "version")
    mdb.strerror = <char* (*)(int) noexcept nogil>find_symbol(handle, prefix, "strerror")
    mdb.env_create = <int (*)(MDB_env**) noexcept nogil>find_symbol(handle, prefix, "env_create")
    mdb.env_open = <int (*)(MDB_env*, const char*, unsigned int, unsigned int) noexcept nogil>find_symbol(
        handle, prefix, "env_open")
    mdb.env_close = <void (*)(MDB_env*) noexcept nogil>find_symbol(handle, prefix, "env_close")
    mdb.env_sync = <int (*)(MDB_env*, int) noexcept nogil>find_symbol(handle, prefix, "env_sync")
    mdb.env_info = <int (*)(MDB_env*, MDB_envinfo*) noexcept nogil>find_symbol(handle, prefix, "env_info")
    mdb.env_stat = <int (*)(MDB_env*, MDB_stat*) noexcept nogil>find_symbol(handle, prefix, "env_stat")
    mdb.env_set_mapsize = <int (*)(MDB_env*, size_t) noexcept nogil>find_symbol(handle, prefix, "env_set_mapsize")
    mdb.env_set_maxdbs = <int (*)(MDB_env*, MDB_dbi) noexcept nogil>find_symbol(handle, prefix, "env_set_maxdbs")
    mdb.env_set_maxreaders = <int (*)(MDB_env*, unsigned int) noexcept nogil>find_symbol(
        handle, prefix, "env_set_maxreaders")
    mdb.env_get_maxkeysize = <int (*)(MDB_env*) noexcept nogil>find_symbol(handle, prefix, "env_get_maxkeysize")
    mdb.env_set_assert = <int (*)(MDB_env*, void (*)(MDB_env*, const char*) noexcept nogil) noexcept nogil>find_symbol(
        handle, prefix, "env_set_assert")
    mdb.reader_check = <int (*)(MDB_env*, int*) noexcept nogil>find_symbol(handle, prefix, "reader_check")
    mdb.txn_begin = <int (*)(MDB_env*, MDB_txn*, unsigned int, MDB_txn**) noexcept nogil>find_symbol(
        handle, prefix, "txn_begin")
    mdb.txn_commit = <int (*)(MDB_txn*) noexcept nogil>find_symbol(handle, prefix, "txn_commit")
    mdb.txn_abort = <void (*)(MDB_txn*) noexcept nogil>find_symbol(handle, prefix, "txn_abort")
    mdb.txn_reset = <void (*)(MDB_txn*) noexcept nogil>find_symbol(handle, prefix, "txn_reset")
    mdb.txn_renew = <int (*)(MDB_txn*) noexcept nogil>find_symbol(handle, prefix, "txn_renew")
    mdb.dbi_open = <int (*)(MDB_txn*, const char*, unsigned int, MDB_dbi*) noexcept nogil>find_symbol(
        handle, prefix, "dbi_open")
    mdb.stat = <int (*)(MDB_txn*, MDB_dbi, MDB_stat*) noexcept nogil>find_symbol(handle, prefix, "stat")
    mdb.drop = <int (*)(MDB_txn*, MDB_dbi, int) noexcept nogil>find_symbol(handle, prefix, "drop")
    mdb.get = <int (*)(MDB_txn*, MDB_dbi, MDB_val*, MDB_val*) noexcept nogil>find_symbol(handle, prefix, "get")
    mdb.put = <int (*)(MDB_txn*, MDB_dbi, MDB_val*, MDB_val*, unsigned int) noexcept nogil>find_symbol(
        handle, prefix, "put")
    mdb.delete = <int (*)(MDB_txn*, MDB_dbi, MDB_val*, MDB_val*) noexcept nogil>find_symbol(handle, prefix, "del")
    mdb.cursor_open = <int (*)(MDB_txn*, MDB_dbi, MDB_cursor**) noexcept nogil>find_symbol(
        handle, prefix, "cursor_open")
    mdb.cursor_close = <void (*)(MDB_cursor*) noexcept nogil>find_symbol(handle, prefix, "cursor_close")
    mdb.cursor_renew = <int (*)(MDB_txn*, MDB_cursor*) noexcept nogil>find_symbol(handle, prefix, "cursor_renew")
    mdb.cursor_get = <int (*)(MDB_cursor*, MDB_val*, MDB_val*, int) noexcept nogil>find_symbol(
        handle, prefix, "cursor_get")
    mdb.cursor_put = <int (*)(MDB_cursor*, MDB_val*, MDB_val*, unsigned int) noexcept nogil>find_symbol(
        handle, prefix, "cursor_put")
    mdb.cursor_del = <int (*)(MDB_cursor*, unsigned int) noexcept nogil>find_symbol(handle, prefix, "cursor_del")
    return 0


def version() -> tuple[int, int, int]:
    """The version of the library that load() found."""
    cdef int major = 0
    cdef int minor = 0
    cdef int patch = 0
    load()
    mdb.version(&major, &minor, &patch)
    return major, minor, patch


def load(paths: list[str] | None = None) -> None:
    """Fill the table, once a process. Raises ImportError, saying what was tried, where no LMDB 0.9 is to be found."""
    global loaded
    cdef void* handle
    cdef int major = 0
    cdef int minor = 0
    cdef int patch = 0
    if loaded and paths is None:
        return
    tried = []
    for path in package_libraries() + list(SYSTEM_LIBRARIES) if paths is None else paths:
        handle = dlopen(path.encode(), RTLD_NOW)
        if handle == NULL:
            tried.append(f"{path}: {dlerror().decode(errors='replace')}")
            continue
        for prefix in (b"mdb09_", b"mdb_"):
            try:
                fill(handle, prefix)
            except ImportError as e:
                tried.append(f"{path}: {e}")
                continue
            mdb.version(&major, &minor, &patch)
            if (major, minor) == (0, 9):
                if not loaded:
                    pthread_atfork(NULL, NULL, &count_fork)
                loaded = True
                return
            tried.append(f"{path}: LMDB {major}.{minor}.{patch}")
    loaded = False
    raise ImportError("JetStream's file storage needs LMDB 0.9, which the package 'lmdb' (3.0) brings; tried "
                      + "; ".join(tried))
