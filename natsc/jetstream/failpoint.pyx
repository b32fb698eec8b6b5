"""Failpoints: places where a test can have the process killed, as if the machine's owner did it just there.

NATSC_FAILPOINT=commit.done:kill@17 sends SIGKILL the 17th time that a commit is done (without @, the first time). The
variable is read once, when JetStream's storage is imported; without it a place costs a comparison, and none is passed
more often than once a batch.
"""

import os

from libc.signal cimport SIGKILL

cdef extern from "<signal.h>" nogil:
    int kill(int pid, int sig)

cdef extern from "<unistd.h>" nogil:
    int getpid()

cdef extern from *:
    """
    static int count_down(long *left) { return __atomic_sub_fetch(left, 1, __ATOMIC_SEQ_CST) == 0; }
    """
    int count_down(long*) noexcept nogil

VARIABLE = "NATSC_FAILPOINT"

NAMES = {
    "store.made": FAIL_STORE_MADE,
    "store.formatted": FAIL_STORE_FORMATTED,
    "store.named": FAIL_STORE_NAMED,
    "commit.begin": FAIL_COMMIT_BEGIN,
    "commit.applied": FAIL_COMMIT_APPLIED,
    "commit.done": FAIL_COMMIT_DONE,
    "commit.reported": FAIL_COMMIT_REPORTED,
    "store.enlarge": FAIL_ENLARGE,
    "store.sync": FAIL_SYNC,
    "store.synced": FAIL_SYNCED,
    "release.begin": FAIL_RELEASE_BEGIN,
    "release.end": FAIL_RELEASE_END,
    "checkpoint": FAIL_CHECKPOINT,
    "consumer.pages": FAIL_CONSUMER_PAGES,
    "stream.made": FAIL_STREAM_MADE,
    "stream.saved": FAIL_STREAM_SAVED,
    "stream.dropped": FAIL_STREAM_DROPPED,
    "stream.deleted": FAIL_STREAM_DELETED,
    "stream.purged": FAIL_STREAM_PURGED,
    "restore.begun": FAIL_RESTORE_BEGUN,
    "restore.saved": FAIL_RESTORE_SAVED,
    "consumer.deleted": FAIL_CONSUMER_DELETED,
    "key.kept": FAIL_KEY_KEPT,
    "encrypt.copied": FAIL_ENCRYPT_COPIED,
    "encrypt.replaced": FAIL_ENCRYPT_REPLACED,
    "compact.copied": FAIL_COMPACT_COPIED,
    "compact.replaced": FAIL_COMPACT_REPLACED,
}

armed = -1
cdef long left = 0


def parse(text: str) -> tuple[int, int]:
    """(place, how often it is passed until the process ends) of `name:kill@N`. Raises ValueError."""
    name, _, action = text.partition(":")
    verb, _, times = action.partition("@")
    if name not in NAMES or verb != "kill" or not (times or "1").isdecimal() or int(times or 1) < 1:
        raise ValueError(f"{VARIABLE} is {text!r}, not one of {', '.join(NAMES)} with :kill or :kill@N behind it")
    return NAMES[name], int(times or 1)


cdef void reached(int point) noexcept nogil:
    if count_down(&left):
        kill(getpid(), SIGKILL)


def here(name: str) -> None:
    """failpoint, for Python."""
    if armed >= 0:
        failpoint(NAMES[name])


if os.environ.get(VARIABLE):
    armed, left = parse(os.environ[VARIABLE])
