# Named places where a test can have the process killed.

cdef enum failpoint_t:
    FAIL_STORE_MADE         # a store's directory and file are there, nothing in it is committed
    FAIL_STORE_FORMATTED    # its format is committed, its name in the directory may not be on disk
    FAIL_STORE_NAMED        # so is that, its id is not yet kept beside it
    FAIL_COMMIT_BEGIN       # a batch is taken
    FAIL_COMMIT_APPLIED     # all of it is in the transaction
    FAIL_COMMIT_DONE        # the transaction is committed, nobody knows
    FAIL_COMMIT_REPORTED    # the loop knows
    FAIL_ENLARGE            # the map is full, and about to be made larger
    FAIL_SYNC               # a periodic sync is due
    FAIL_SYNCED             # it is done, and not yet written down
    FAIL_RELEASE_BEGIN      # the loop is about to send what waited for the disk
    FAIL_RELEASE_END        # it is on its way
    FAIL_CHECKPOINT         # a checkpoint is queued, but for its head
    FAIL_CONSUMER_PAGES     # a consumer's pages are queued, not yet the head
    FAIL_STREAM_MADE        # a stream's databases are queued, not yet its configuration
    FAIL_STREAM_SAVED       # and its configuration
    FAIL_STREAM_DROPPED     # the drop of a stream's databases is queued, its configuration is still there
    FAIL_STREAM_DELETED     # that is queued too
    FAIL_STREAM_PURGED      # a purge is queued
    FAIL_RESTORE_BEGUN      # the databases of a stream that is restored are queued, and that it is being restored
    FAIL_RESTORE_SAVED      # its configuration too, and it still says that it is being restored
    FAIL_CONSUMER_DELETED   # a consumer's state is to go, its configuration is still there
    FAIL_KEY_KEPT           # a store's key is kept in it anew, not yet in the file beside it
    FAIL_ENCRYPT_COPIED     # a plain store's content is in an encrypted one, which isn't in its place
    FAIL_ENCRYPT_REPLACED   # it is, the file with its key isn't
    FAIL_COMPACT_COPIED     # a smaller file is complete and on disk, not in its place
    FAIL_COMPACT_REPLACED   # it is there, its name may not be on disk

cdef int armed              # the failpoint_t at which the process is to be killed; -1 = none
cdef void reached(int point) noexcept nogil

cdef inline void failpoint(int point) noexcept nogil:
    """The process is here: it ends where it was told to."""
    if armed == point:
        reached(point)
