# liblmdb's C functions, found at run time. `mdb` is the table of them; load() fills it.
#
# Only plain structs and functions of LMDB 0.9 are used, so any 0.9.x will do. Return values are 0, an MDB_* code below
# or an errno.

from libc.stdint cimport uint64_t

cdef enum:
    # mdb_env_open
    MDB_NOSYNC = 0x10000
    MDB_NOTLS = 0x200000
    MDB_NOLOCK = 0x400000
    MDB_NORDAHEAD = 0x800000
    # mdb_env_copyfd2
    MDB_CP_COMPACT = 1
    # mdb_txn_begin
    MDB_RDONLY = 0x20000
    # mdb_dbi_open
    MDB_CREATE = 0x40000
    # mdb_put
    MDB_NOOVERWRITE = 0x10
    MDB_APPEND = 0x20000
    # results
    MDB_KEYEXIST = -30799
    MDB_NOTFOUND = -30798
    MDB_PAGE_NOTFOUND = -30797
    MDB_CORRUPTED = -30796
    MDB_MAP_FULL = -30792
    MDB_DBS_FULL = -30791
    # mdb_cursor_get
    MDB_FIRST = 0
    MDB_LAST = 6
    MDB_NEXT = 8
    MDB_PREV = 12
    MDB_SET_KEY = 16
    MDB_SET_RANGE = 17

cdef extern from *:
    """
    typedef struct MDB_env MDB_env;
    typedef struct MDB_txn MDB_txn;
    typedef struct MDB_cursor MDB_cursor;
    """
    ctypedef struct MDB_env:
        pass
    ctypedef struct MDB_txn:
        pass
    ctypedef struct MDB_cursor:
        pass

ctypedef unsigned int MDB_dbi

cdef struct MDB_val:
    size_t size
    void* data

cdef struct MDB_stat:
    unsigned int psize
    unsigned int depth
    size_t branch_pages
    size_t leaf_pages
    size_t overflow_pages
    size_t entries

cdef struct MDB_envinfo:
    void* mapaddr
    size_t mapsize
    size_t last_pgno
    size_t last_txnid
    unsigned int maxreaders
    unsigned int numreaders

cdef struct mdb_t:
    char* (*version)(int*, int*, int*) noexcept nogil
    char* (*strerror)(int) noexcept nogil
    int (*env_create)(MDB_env**) noexcept nogil
    int (*env_open)(MDB_env*, const char*, unsigned int, unsigned int) noexcept nogil
    void (*env_close)(MDB_env*) noexcept nogil
    int (*env_sync)(MDB_env*, int) noexcept nogil
    int (*env_copyfd2)(MDB_env*, int, unsigned int) noexcept nogil
    int (*env_info)(MDB_env*, MDB_envinfo*) noexcept nogil
    int (*env_stat)(MDB_env*, MDB_stat*) noexcept nogil
    int (*env_set_mapsize)(MDB_env*, size_t) noexcept nogil
    int (*env_set_maxdbs)(MDB_env*, MDB_dbi) noexcept nogil
    int (*env_set_maxreaders)(MDB_env*, unsigned int) noexcept nogil
    int (*env_get_maxkeysize)(MDB_env*) noexcept nogil
    int (*env_set_assert)(MDB_env*, void (*)(MDB_env*, const char*) noexcept nogil) noexcept nogil
    int (*reader_check)(MDB_env*, int*) noexcept nogil
    int (*txn_begin)(MDB_env*, MDB_txn*, unsigned int, MDB_txn**) noexcept nogil
    int (*txn_commit)(MDB_txn*) noexcept nogil
    void (*txn_abort)(MDB_txn*) noexcept nogil
    void (*txn_reset)(MDB_txn*) noexcept nogil
    int (*txn_renew)(MDB_txn*) noexcept nogil
    int (*dbi_open)(MDB_txn*, const char*, unsigned int, MDB_dbi*) noexcept nogil
    int (*stat)(MDB_txn*, MDB_dbi, MDB_stat*) noexcept nogil
    int (*drop)(MDB_txn*, MDB_dbi, int) noexcept nogil
    int (*get)(MDB_txn*, MDB_dbi, MDB_val*, MDB_val*) noexcept nogil
    int (*put)(MDB_txn*, MDB_dbi, MDB_val*, MDB_val*, unsigned int) noexcept nogil
    int (*delete)(MDB_txn*, MDB_dbi, MDB_val*, MDB_val*) noexcept nogil
    int (*cursor_open)(MDB_txn*, MDB_dbi, MDB_cursor**) noexcept nogil
    void (*cursor_close)(MDB_cursor*) noexcept nogil
    int (*cursor_renew)(MDB_txn*, MDB_cursor*) noexcept nogil
    int (*cursor_get)(MDB_cursor*, MDB_val*, MDB_val*, int) noexcept nogil
    int (*cursor_put)(MDB_cursor*, MDB_val*, MDB_val*, unsigned int) noexcept nogil
    int (*cursor_del)(MDB_cursor*, unsigned int) noexcept nogil

cdef mdb_t mdb

# What reads a store's pages does it in a trap: see lmdb.pyx. What was interrupted (a cursor, a transaction) is good for
# nothing but closing, and after a write transaction so is the environment.
cdef enum:
    TRAPPED_ASSERT = -31001     # an assertion of LMDB failed: a page of nonsense
    TRAPPED_FAULT = -31002      # a page can't be read

ctypedef int (*trapped_fn)(void* arg) noexcept nogil
cdef void trap_assert(MDB_env* env, const char* text) noexcept nogil
cdef bint note_map(void* old, void* start, size_t size) noexcept nogil
cdef int trapped(trapped_fn fn, void* arg) noexcept nogil
cdef int trapped_any(trapped_fn fn, void* arg) noexcept nogil
cdef int find_map(MDB_env* env, MDB_dbi meta, char** start) noexcept nogil
cdef int cursor_open_trapped(MDB_txn* txn, MDB_dbi dbi, MDB_cursor** c) noexcept nogil
cdef int cursor_renew_trapped(MDB_txn* txn, MDB_cursor* c) noexcept nogil
cdef int cursor_get_trapped(MDB_cursor* c, MDB_val* k, MDB_val* v, int op, size_t touch) noexcept nogil
cdef bint leaf_whole(const void* key, size_t page_size) noexcept nogil
cdef bint readable(const void* p, size_t n) noexcept nogil
cdef uint64_t forks_seen() noexcept nogil
