"""A stream's store as a dict: slow, and obviously right. And the operations that tests throw at both."""

from hypothesis import strategies as st

SUBJECTS = [b"a", b"a.b", b"a.b.c", b"a.c", b"b.a", b"b"]
PATTERNS = [b"", b">", b"a", b"a.*", b"*.b", b"a.>", b"b", b"*.*.c", b"zz"]


def matches(pattern, subject):
    """Whether the literal subject is in the pattern; no pattern matches all."""
    if not pattern:
        return True
    p, s = pattern.split(b"."), subject.split(b".")
    for i, token in enumerate(p):
        if token == b">":
            return len(s) > i
        if i >= len(s) or token not in (b"*", s[i]):
            return False
    return len(p) == len(s)


class Model:
    """The same operations and answers as MsgStore's Python side."""

    def __init__(self, is_file):
        self.is_file = is_file
        self.all = {}
        self.first_seq = self.last_seq = self.last_ts = 0

    def size(self, m):
        n = len(m[2]) + len(m[3]) + len(m[4])
        if not self.is_file:
            return 16 + n
        return n + (34 if m[3] else 30)

    def settle(self):
        self.first_seq = min(self.all) if self.all else self.last_seq + 1

    def append_bytes(self, subject, msg, hdr=b"", ts_ns=0, seq=0):
        seq = seq or self.last_seq + 1
        self.all[seq] = (seq, ts_ns, subject, hdr, msg)
        self.last_seq, self.last_ts = seq, ts_ns
        self.settle()
        return seq

    def get_bytes(self, seq):
        return self.all.get(seq)

    def remove_seq(self, seq):
        if seq not in self.all:
            return False
        del self.all[seq]
        self.settle()
        return True

    def skip(self, seq, ts_ns=0):
        if seq <= self.last_seq + 1:
            return
        self.last_seq = seq - 1
        self.last_ts = self.last_ts or ts_ns
        self.settle()

    def purge(self, subject=b"", seq=0, keep=0, budget=0):
        everything = subject in (b"", b">")
        if seq == 1:
            return 0
        if everything and seq > self.last_seq and self.first_seq <= seq:
            purged = len(self.all)
            self.all.clear()
            self.last_seq = seq - 1
            self.first_seq = seq
            return purged
        doomed = sorted(s for s, m in self.all.items() if matches(subject, m[2]))
        if keep and not (everything and seq):
            doomed = doomed[: max(len(doomed) - keep, 0)]
        if seq:
            doomed = [s for s in doomed if s < seq]
        for s in doomed:
            del self.all[s]
        if doomed or (everything and not seq and not keep):
            self.settle()
        return len(doomed)

    def next_bytes(self, seq, pattern=b""):
        found = min((s for s, m in self.all.items() if s >= seq and matches(pattern, m[2])), default=None)
        return (None, self.last_seq + 1) if found is None else (self.all[found], found + 1)

    def state_dict(self):
        first, last = self.first_seq, self.last_seq
        return {
            "msgs": len(self.all),
            "bytes": sum(self.size(m) for m in self.all.values()),
            "first_seq": first,
            "last_seq": last,
            "first_ts_ns": self.all[first][1] if self.all else 0,
            "last_ts_ns": self.last_ts,
            "num_deleted": last - first + 1 - len(self.all) if last > first else 0,
            "num_subjects": len({m[2] for m in self.all.values()}),
        }

    def subjects_state(self, pattern=b""):
        found = {}
        for s, m in sorted(self.all.items()):
            if matches(pattern, m[2]):
                first, _, count = found.get(m[2], (s, 0, 0))
                found[m[2]] = (first, s, count + 1)
        return found

    def pending(self, seq, patterns=(), last_per_subject=False):
        last = {m[2]: s for s, m in sorted(self.all.items())}
        return sum(
            s >= seq
            and (not patterns or any(matches(p, m[2]) for p in patterns))
            and (not last_per_subject or last[m[2]] == s)
            for s, m in self.all.items()
        )

    def from_time(self, ts_ns):
        return min((s for s, m in self.all.items() if m[1] >= ts_ns), default=self.last_seq + 1)


operations = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.sampled_from(SUBJECTS), st.binary(max_size=8), st.sampled_from([b"", b"h: 1"])),
        st.tuples(st.just("append"), st.sampled_from(SUBJECTS), st.binary(max_size=8), st.just(b"")),
        st.tuples(st.just("gap"), st.integers(1, 9000)),
        st.tuples(st.just("skip"), st.integers(0, 5)),
        st.tuples(st.just("remove"), st.integers(0, 30)),
        st.tuples(st.just("remove first")),
        st.tuples(st.just("remove last")),
        st.tuples(
            st.just("purge"), st.sampled_from(PATTERNS), st.integers(0, 40), st.integers(0, 3), st.integers(1, 4)
        ),
        st.tuples(st.just("purge all")),
        st.tuples(st.just("commit")),
        st.tuples(st.just("reopen")),
    ),
    max_size=40,
)


def apply(store, model, op, clock):
    """One operation on both; their answers must agree."""
    kind, *args = op
    if kind in ("append", "gap"):
        seq = model.last_seq + args.pop() if kind == "gap" else 0
        subject, msg, hdr = args if kind == "append" else (b"a", b"gap", b"")
        answers = [s.append_bytes(subject, msg, hdr, clock, seq) for s in (store, model)]
    elif kind == "skip":
        answers = [s.skip(model.last_seq + args[0], clock) for s in (store, model)]
    elif kind.startswith("remove"):
        seq = {"remove first": model.first_seq, "remove last": model.last_seq}.get(kind) or model.first_seq + sum(args)
        answers = [s.remove_seq(seq) for s in (store, model)]
    elif kind == "purge":
        pattern, seq, keep, budget = args
        if seq and keep:  # not both, as in the API
            keep = 0
        seq = seq and model.first_seq + seq - 3 if model.first_seq + seq > 3 else 0
        answers = [s.purge(pattern, seq, keep, budget) for s in (store, model)]
    else:
        answers = [s.purge() for s in (store, model)]
    assert answers[0] == answers[1], (op, answers)


def compare(store, model):
    """Everything that can be asked."""
    assert store.state_dict() == model.state_dict()
    for seq in {0, 1, *model.all, *(s + 1 for s in model.all)}:
        assert store.get_bytes(seq) == model.get_bytes(seq)
    for pattern in PATTERNS:
        assert store.subjects_state(pattern) == model.subjects_state(pattern)
        for seq in (1, model.first_seq + 1, model.first_seq + 3, model.last_seq):
            assert store.next_bytes(seq, pattern) == model.next_bytes(seq, pattern)
            for last in (False, True):
                assert store.pending(seq, [pattern], last) == model.pending(seq, [pattern], last), (seq, pattern, last)
    assert store.pending(3, [b"a", b"a.>"]) == model.pending(3, [b"a", b"a.>"])
    assert store.from_time(model.last_ts // 2) == model.from_time(model.last_ts // 2)
