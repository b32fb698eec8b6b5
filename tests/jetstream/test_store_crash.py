"""A process that is killed loses nothing that it acknowledged, and half of no batch.

NATSC_CRASH_ROUNDS sets how often it is killed (20), NATSC_CRASH_SEED repeats a run.
"""

import os
import random
import subprocess
import sys
import time

import pytest

from natsc.jetstream.store import Store

from .crashing import operations
from .storemodel import Model

ROUNDS = int(os.environ.get("NATSC_CRASH_ROUNDS", "20"))
SEED = os.environ.get("NATSC_CRASH_SEED", str(random.SystemRandom().randrange(10**9)))


def run_and_kill(where, step, delay):
    """The last step that the process acknowledged before it died; step - 1 where it was none."""
    script = os.path.join(os.path.dirname(__file__), "crashing.py")
    child = subprocess.Popen(
        [sys.executable, script, where, SEED, str(step)], bufsize=0, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )  # without a buffer: communicate() would not look into it
    assert child.stdout.readline() == b"ready\n", child.stderr.read().decode()
    time.sleep(delay)
    child.kill()
    out, err = child.communicate(timeout=20)
    assert child.returncode == -9, err.decode()
    acked = [int(line) for line in out.split(b"\n")[:-1]]
    assert acked == list(range(step, step + len(acked)))
    return step + len(acked) - 1


def contents(f, seqs):
    return {seq: f.get_bytes(seq) for seq in seqs}


@pytest.mark.timeout(60 + ROUNDS * 10)
def test_killed_again_and_again(tmp_path):
    rng = random.Random(SEED)
    where = str(tmp_path)
    model, step = Model(is_file=True), 1
    for round_ in range(ROUNDS):
        what = f"seed {SEED} round {round_}"
        acked = run_and_kill(where, step, rng.choice([0, 0.01, 0.05, 0.1, 0.2]) * rng.random())
        s = Store(where, map_size=1 << 20)
        f = s.open_stream("A", "S")
        kept = int(dict(f.consumer_items()).get(b"step", step - 1))
        assert acked <= kept <= acked + 100, what
        for done in range(step, kept + 1):
            for method, args in operations(SEED, done, model.first_seq, model.last_seq):
                getattr(model, method)(*args)
        step = kept + 1
        assert f.state_dict() == model.state_dict(), what
        assert f.subjects_state() == model.subjects_state(), what
        assert contents(f, model.all) == model.all, what
        assert f.lost == [], what
        s.close()
    assert step > ROUNDS, "hardly anything was written"
