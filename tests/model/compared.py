"""Programs for natsc, nats-server and the model: servers end, are killed, and go on with what they have kept."""

from __future__ import annotations

import signal
import time

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.model.machine import Programs, counts
from tests.model.peer import Peer

WRITTEN_S = 0.5  # after this nats-server has written what it answered before; natsc has it when it answers


def compared(peers: list[Peer], kill_both: bool = True) -> type[Programs]:
    class Bound(Compared):
        pass

    Bound.peers, Bound.kill_both = peers, kill_both
    return Bound


class Compared(Programs):
    kill_both: bool  # or natsc alone, and nats-server ends

    # One step in some hundreds: a start takes as long as a hundred other steps.
    @rule(chance=st.integers(0, 15), kill=st.booleans())
    def restart(self, chance: int, kill: bool) -> None:
        consumers = [c for s in self.streams for c in s.consumers.values()]
        if chance > self.alone or (not self.alone and any(c.skip or c.counts_subjects() for c in consumers)):
            return  # what is left of last messages nats-server forgets, and counts anew what is pending
        # What a limit has removed nats-server doesn't write down; it removes it again if there still are too many.
        kill = kill and (self.alone or not any(s.cut or (s.limited and s.has_limits > 1) for s in self.streams))
        for peer in self.peers:
            dies = kill and (peer is self.peers[0] or self.kill_both)
            if dies and peer is not self.peers[0]:
                time.sleep(WRITTEN_S)
            peer.restart(signal.SIGKILL if dies else signal.SIGTERM)
        counts["kills" if kill else "restarts"] += 1
        self.go_on()
