"""Finds liblmdb and fills the table of its functions.

The `lmdb` package exports LMDB's C functions from its extension module; opening that file by path gives the very image
that the package itself would use, without importing the package. Where there is none, a system library serves. So
installing needs no compiler flags, and the storage worker needs no interpreter lock.

A page of nonsense makes LMDB fail an assertion, which would end the process, or lead it to read where nothing is; and a
page that the disk doesn't give, or that lies behind the end of a file that was cut off, is a fault of the processor.
trapped() runs a function and turns both into a return value. So whatever reads a store does it in a trap, and touches
there what it will read afterwards. Nothing in a trap may hold the interpreter's lock only for a while, own a Python
object or lock anything, for it may end anywhere.

An environment must not be used in a process forked from the one that opened it: forks_seen() tells a child.
"""

from libc.stdint cimport uint64_t, uintptr_t

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
    #include <pthread.h>
    #include <setjmp.h>
    #include <signal.h>
    #include <stdint.h>
    #include <stdio.h>
    #include <string.h>
    #include <unistd.h>

    enum { TRAP_ASSERT = 1, TRAP_FAULT = 2, MAPS_MAX = 64, BEYOND = 1 << 20 };

    static __thread jmp_buf *natsc_trap;
    static __thread int natsc_trap_any;         /* the map isn't known yet: any fault is taken for one of ours */
    static struct { uintptr_t start, end; } natsc_maps[MAPS_MAX];
    static struct sigaction natsc_before[2];     /* of SIGBUS and SIGSEGV */

    static int natsc_trapped(int (*fn)(void *), void *arg, int any, int on_assert, int on_fault) {
        jmp_buf here, *outer = natsc_trap;
        int rc = _setjmp(here);
        if (rc == 0) {
            natsc_trap = &here;
            natsc_trap_any = any;
            rc = fn(arg);
        } else {
            rc = rc == TRAP_ASSERT ? on_assert : on_fault;
        }
        natsc_trap = outer;
        natsc_trap_any = 0;
        return rc;
    }
    static void natsc_trap_assert(void) {
        if (natsc_trap)
            _longjmp(*natsc_trap, TRAP_ASSERT);
    }
    /* Whether an address lies in a store's map, or so close behind it that an offset of nonsense leads there. */
    static int natsc_in_maps(uintptr_t p) {
        for (int i = 0; i < MAPS_MAX; i++) {
            uintptr_t start = __atomic_load_n(&natsc_maps[i].start, __ATOMIC_SEQ_CST);
            if (start && p >= start && p < __atomic_load_n(&natsc_maps[i].end, __ATOMIC_SEQ_CST) + BEYOND)
                return 1;
        }
        return 0;
    }
    /* A fault of ours goes back to who set the trap. Any other, and ours outside of a trap, is left to whoever was
       there before: the instruction faults again when this returns. */
    static void natsc_on_fault(int sig, siginfo_t *info, void *context) {
        static const char text[] = "natsc: reading the store's data file failed outside of a check: the file was cut "
                                   "off, or the disk can't be read\\n";
        static int told[2];
        struct sigaction next;
        int which = sig == SIGSEGV;
        int ours = info->si_code > 0 && (natsc_trap_any || natsc_in_maps((uintptr_t)info->si_addr));
        (void)context;
        if (ours && natsc_trap)
            _longjmp(*natsc_trap, TRAP_FAULT);
        if (ours && !told[which] && write(2, text, sizeof text - 1) < 0)
            ours = 0;
        next = natsc_before[which];
        if (told[which]++)              /* they handed it back */
            next.sa_handler = SIG_DFL, next.sa_flags = 0;
        sigaction(sig, &next, NULL);
    }
    static void natsc_watch_faults(void) {
        struct sigaction ours, now;
        memset(&ours, 0, sizeof ours);
        ours.sa_sigaction = natsc_on_fault;
        ours.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
        sigemptyset(&ours.sa_mask);
        for (int i = 0; i < 2; i++) {
            int sig = i ? SIGSEGV : SIGBUS;
            sigaction(sig, NULL, &now);
            if (!(now.sa_flags & SA_SIGINFO) || now.sa_sigaction != natsc_on_fault)
                sigaction(sig, &ours, &natsc_before[i]);
        }
    }
    /* Take note of a map that was made, moved (from old) or, with size 0, is given up. 0 where there are too many. */
    static int natsc_note_map(void *old, void *start, size_t size) {
        static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
        int i, at = -1;
        pthread_mutex_lock(&lock);
        for (i = MAPS_MAX - 1; i >= 0; i--)
            if (natsc_maps[i].start == (uintptr_t)old)
                at = i;
        if (at >= 0) {
            __atomic_store_n(&natsc_maps[at].start, 0, __ATOMIC_SEQ_CST);
            __atomic_store_n(&natsc_maps[at].end, (uintptr_t)start + size, __ATOMIC_SEQ_CST);
            if (size)
                __atomic_store_n(&natsc_maps[at].start, (uintptr_t)start, __ATOMIC_SEQ_CST);
        }
        pthread_mutex_unlock(&lock);
        return at >= 0;
    }
    /* How much of a map lies behind an address in it; 0 outside of them. */
    static size_t natsc_left_in_map(uintptr_t p) {
        for (int i = 0; i < MAPS_MAX; i++)
            if (natsc_maps[i].start && p >= natsc_maps[i].start && p < natsc_maps[i].end)
                return natsc_maps[i].end - p;
        return 0;
    }
    /* Whether n bytes at p lie in a map. They are touched, up to most of them: call it in a trap. */
    static int natsc_readable(const void *p, size_t n, size_t most) {
        const volatile char *at = (const volatile char *)p;
        size_t i;
        if (n > natsc_left_in_map((uintptr_t)p))
            return 0;
        if (most > n)
            most = n;
        for (i = 0; i < most; i += 4096)
            (void)at[i];
        if (most)
            (void)at[most - 1];
        return 1;
    }
    static uint16_t natsc_u16(const unsigned char *p) { return (uint16_t)(p[0] | p[1] << 8); }
    /* Whether the leaf page that a key lies in is built as LMDB builds them: what it says of itself (16 bytes), then an
       offset for each node; the nodes fill its end without gaps. Pages that are not in a map are new, and whole. */
    static int natsc_leaf_whole(const void *key, size_t size) {
        const unsigned char *page = (const unsigned char *)((uintptr_t)key & ~(uintptr_t)(size - 1)), *node;
        unsigned lower, upper, i, at, n, filled = 0, flags;
        if (natsc_left_in_map((uintptr_t)page) < size)
            return 1;
        lower = natsc_u16(page + 12), upper = natsc_u16(page + 14);
        if (natsc_u16(page + 10) != 2 || lower < 16 || lower % 2 || lower > upper || upper > size)
            return 0;
        for (i = 16; i < lower; i += 2) {
            at = natsc_u16(page + i);
            if (at < upper || at % 2 || at + 8 > size)
                return 0;
            node = page + at;
            flags = natsc_u16(node + 4);
            n = flags & 1 ? 8 : natsc_u16(node) | (unsigned)natsc_u16(node + 2) << 16;
            if (flags > 2 || natsc_u16(node + 6) > 511 || n > size)
                return 0;
            n = (8 + natsc_u16(node + 6) + n + 1) & ~1u;
            if (at + n > size)
                return 0;
            filled += n;
        }
        return filled == size - upper;
    }
    """
    bint natsc_leaf_whole(const void* key, size_t page_size) noexcept nogil
    int natsc_trapped(trapped_fn fn, void* arg, bint any, int on_assert, int on_fault) noexcept nogil
    void natsc_watch_faults() noexcept nogil
    void natsc_trap_assert() noexcept nogil
    bint natsc_note_map(void* old, void* start, size_t size) noexcept nogil
    bint natsc_readable(const void* p, size_t n, size_t most) noexcept nogil

SYSTEM_LIBRARIES = ("liblmdb.so.0", "liblmdb.so", "liblmdb.dylib")

cdef enum:
    KEY_SIZE_MAX = 511

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
    natsc_trap_assert()


cdef bint note_map(void* old, void* start, size_t size) noexcept nogil:
    """A store's map was made (old NULL), moved or, with size 0, given up. False where there are too many of them."""
    return natsc_note_map(old, start, size)


cdef struct call_t:
    MDB_txn* txn
    MDB_dbi dbi
    MDB_cursor* cursor
    MDB_val* key
    MDB_val* value
    int op
    size_t touch
    char* found


cdef int trapped(trapped_fn fn, void* arg) noexcept nogil:
    """fn(arg), or TRAPPED_*: what happened in it."""
    return natsc_trapped(fn, arg, False, TRAPPED_ASSERT, TRAPPED_FAULT)


cdef int trapped_any(trapped_fn fn, void* arg) noexcept nogil:
    """trapped, where the map isn't known to note_map yet. Not for much: any fault in fn is taken for a page's."""
    natsc_watch_faults()
    return natsc_trapped(fn, arg, True, TRAPPED_ASSERT, TRAPPED_FAULT)


cdef int call_find_map(void* arg) noexcept nogil:
    cdef call_t* a = <call_t*>arg
    cdef MDB_stat stat
    cdef MDB_val k, v
    cdef uintptr_t page
    cdef int rc = mdb.stat(a.txn, a.dbi, &stat)
    if rc == 0:
        k.size = 6
        k.data = b"format"
        rc = mdb.get(a.txn, a.dbi, &k, &v)
    if rc == 0:
        # A small value lies in its page, and a page begins with its number.
        page = <uintptr_t>v.data & ~<uintptr_t>(stat.psize - 1)
        a.found = <char*>page - (<size_t*>page)[0] * stat.psize
    return rc


cdef int find_map(MDB_env* env, MDB_dbi meta, char** start) noexcept nogil:
    """Where the map of an environment with a meta database is, which LMDB doesn't tell. 0 or an error."""
    cdef call_t a
    cdef int rc
    a.dbi = meta
    rc = mdb.txn_begin(env, NULL, MDB_RDONLY, &a.txn)
    if rc:
        return rc
    rc = trapped_any(&call_find_map, &a)
    mdb.txn_abort(a.txn)
    start[0] = a.found
    return rc


cdef int call_open(void* arg) noexcept nogil:
    cdef call_t* a = <call_t*>arg
    return mdb.cursor_open(a.txn, a.dbi, &a.cursor)


cdef int call_renew(void* arg) noexcept nogil:
    cdef call_t* a = <call_t*>arg
    return mdb.cursor_renew(a.txn, a.cursor)


cdef int call_get(void* arg) noexcept nogil:
    cdef call_t* a = <call_t*>arg
    cdef int rc = mdb.cursor_get(a.cursor, a.key, a.value, a.op)
    if rc == 0 and not (natsc_readable(a.key.data, a.key.size, KEY_SIZE_MAX)
                        and natsc_readable(a.value.data, a.value.size, a.touch)):
        return MDB_CORRUPTED
    return rc


cdef int call_readable(void* arg) noexcept nogil:
    cdef MDB_val* v = <MDB_val*>arg
    return 0 if natsc_readable(v.data, v.size, v.size) else MDB_CORRUPTED


cdef int cursor_open_trapped(MDB_txn* txn, MDB_dbi dbi, MDB_cursor** c) noexcept nogil:
    """mdb_cursor_open. After an error there is no cursor."""
    cdef call_t a
    cdef int rc
    a.txn = txn
    a.dbi = dbi
    a.cursor = NULL
    rc = trapped(&call_open, &a)
    c[0] = a.cursor if rc == 0 else NULL
    return rc


cdef int cursor_renew_trapped(MDB_txn* txn, MDB_cursor* c) noexcept nogil:
    """mdb_cursor_renew. After an error the cursor must be closed."""
    cdef call_t a
    a.txn = txn
    a.cursor = c
    return trapped(&call_renew, &a)


cdef int cursor_get_trapped(MDB_cursor* c, MDB_val* k, MDB_val* v, int op, size_t touch) noexcept nogil:
    """mdb_cursor_get in a read transaction. After anything but 0 and MDB_NOTFOUND the cursor must be closed.

    With 0 the key, and of the value the first touch bytes, can be read.
    """
    cdef call_t a
    a.cursor = c
    a.key = k
    a.value = v
    a.op = op
    a.touch = touch
    return trapped(&call_get, &a)


cdef bint leaf_whole(const void* key, size_t page_size) noexcept nogil:
    """Whether the page of a key that a cursor gave is fit to be changed: changing one of nonsense would write anywhere."""
    return natsc_leaf_whole(key, page_size)


cdef bint readable(const void* p, size_t n) noexcept nogil:
    """Whether n bytes in a store's map can be read."""
    cdef MDB_val v
    v.data = <void*>p
    v.size = n
    return trapped(&call_readable, &v) == 0


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
    mdb.env_copyfd2 = <int (*)(MDB_env*, int, unsigned int) noexcept nogil>find_symbol(handle, prefix, "env_copyfd2")
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
