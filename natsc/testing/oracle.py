"""Slow and obvious: which subscriptions match a subject, what permissions allow. Tests compare the engine with it."""

from __future__ import annotations


def is_valid_subscription(subject: bytes) -> bool:
    """No empty token, and ">" only at the end."""
    tokens = subject.split(b".")
    return all(tokens) and b">" not in tokens[:-1]


def matches(subject: bytes, pattern: bytes) -> bool:
    """Whether a subscription to pattern gets what is published to subject; that is taken as it is, wildcards too."""
    left, right = subject.split(b"."), pattern.split(b".")
    if not all(left):
        return False
    for i, token in enumerate(right):
        if token == b">":
            return len(left) > i
        if i == len(left) or (token not in (b"*", left[i])):
            return False
    return len(left) == len(right)


def covers(subset: bytes, pattern: bytes) -> bool:
    """Whether pattern gets everything that subset gets."""
    left, right = subset.split(b"."), pattern.split(b".")
    for i, token in enumerate(right):
        if token == b">":
            return len(left) > i
        if i == len(left) or left[i] == b">" or (token != b"*" and left[i] in (b"*",)) or token not in (b"*", left[i]):
            return False
    return len(left) == len(right)


Entry = tuple[bytes, bytes]


def entries_say(entries: list[Entry], subject: bytes, queue: bytes) -> tuple[bool, bool, bool]:
    """Of the entries that match: whether one names no queue, whether some name one, whether one of those means ours."""
    found = [e_queue for e_subject, e_queue in entries if matches(subject, e_subject)]
    ours = any(q and (q == queue or ((b"*" in q or b">" in q) and covers(queue, q))) for q in found)
    return b"" in found, any(found), ours


def may_publish(subject: bytes, allow: list[bytes] | None, deny: list[bytes] | None) -> bool:
    """No allow list allows everything, an empty one nothing; deny wins."""
    if allow is not None and not any(matches(subject, entry) for entry in allow):
        return False
    return not any(matches(subject, entry) for entry in deny or ())


def may_subscribe(subject: bytes, queue: bytes, allow: list[Entry] | None, deny: list[Entry] | None) -> bool:
    """An entry with a queue speaks of that queue only, and where one matches, it alone decides for a queue."""
    allowed = True
    if allow:
        plain, some, ours = entries_say(allow, subject, queue)
        allowed = ours if queue and some else plain
    if allowed and deny:
        plain, some, ours = entries_say(deny, subject, queue)
        allowed = not plain and not (queue and ours)
    return allowed


def may_receive(subject: bytes, queue: bytes, deny: list[Entry] | None) -> bool:
    """Whether a message on subject may reach a subscription in queue (b"" = none) of who has these deny entries."""
    plain, _, ours = entries_say(deny or [], subject, queue)
    return not plain and not (queue and ours)
