"""A process that writes to a store until it is killed, and says what was acknowledged.

Run as `python crashing.py <directory> <seed> <first step>`. Every step is a few operations and one batch; what they
are follows from the seed, the step and the state of the stream, so that whoever watches can repeat them on a model. On
stdout: a line with the step's number as soon as it is durable.
"""

import os
import random
import sys

IN_FLIGHT = 8


def operations(seed, step, first_seq, last_seq):
    """What a step does: [(method, arguments)]."""
    rng = random.Random(f"{seed}/{step}")
    ops = []
    for _ in range(rng.choice([1, 2, 5, 60])):
        size = rng.choice([0, 10, 100, 100, 5000])
        ops.append(("append_bytes", (b"s.%d" % rng.randrange(9), b"%d" % step * (size // 4), b"", step)))
    count = max(last_seq - first_seq, 0)
    for _ in range(rng.choice([0, 0, 1, 9])):
        ops.append(("remove_seq", (first_seq + rng.randrange(count + 9),)))
    kind = rng.randrange(40)
    if kind == 0:
        ops.append(("purge", ()))
    elif kind == 1:
        ops.append(("purge", (b"", last_seq + 10)))
    elif kind < 5:
        ops.append(("purge", (b"s.%d" % rng.randrange(9), 0, rng.randrange(3))))
    elif kind < 8:
        ops.append(("purge", (b"", first_seq + count // 2)))
    elif kind == 8:
        ops.append(("skip", (last_seq + 100, step)))
    return ops


def main(where, seed, step):
    from natsc.jetstream.store import Store

    s = Store(where, map_size=1 << 20)
    f = s.open_stream("A", "S")
    waiting = {}

    def durable(batch):
        for b in [b for b in waiting if b <= batch]:
            os.write(1, b"%d\n" % waiting.pop(b))

    s.on_durable = durable
    os.write(1, b"ready\n")
    while True:
        for method, args in operations(seed, step, f.first_seq, f.last_seq):
            getattr(f, method)(*args)
        f.consumer_put_bytes(b"step", b"%d" % step)
        waiting[s.end_turn()] = step
        step += 1
        s.on_event()
        if len(waiting) >= IN_FLIGHT:
            s.wait_durable()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
