"""Connection ids count from one, and the server's own clients have some: the first ones, and one for every account."""

from __future__ import annotations

import pytest

EARLIER = 5
USERS = "A {users [{user: a, password: p}]}"


def settled(server, dial) -> int:
    """The id of the first connection after the last of the server's own clients, which nats-server makes in a goroutine
    while it already listens."""
    return max(dial(server).cid - earlier for earlier in range(EARLIER))


@pytest.mark.parametrize(
    ("config", "cid"),
    [
        ("", 5),
        ("accounts { A {}, B {} }", 7),
        ("accounts: [A, B, C]", 8),
        ("accounts { $SYS {users [{user: s, password: p}]}, A {} }", 6),
        ("accounts { SYS {users [{user: s, password: p}]} }\nsystem_account: SYS", 5),
        ("accounts { SYS {}, A {} }\nsystem_account: SYS", 6),
        ("no_system_account: true", 1),
        ("no_system_account: true\naccounts { A {}, B {} }", 1),
        ("no_system_account: true\naccounts { SYS {}, A {} }\nsystem_account: SYS", 6),
    ],
)
def test_the_first(start, dial, config, cid):
    server = start(config + "\n")
    assert settled(server, dial) == cid


def test_accounts_that_come_with_a_reload(start, dial):
    one, two = f"accounts {{ {USERS} }}\n", f"accounts {{ {USERS}, B {{}} }}\n"
    server = start(one)
    assert settled(server, dial) == 6
    cids = [dial(server).cid]
    for config in (two, one, two):
        server.reload(config)
        cids.append(dial(server).cid)
    assert [cid - cids[0] for cid in cids] == [0, 2, 3, 5]


class TestNoSystemAccount:
    @pytest.fixture
    def server(self, shared_server):
        return shared_server("http: 127.0.0.1:-1\nno_system_account: true\n")

    def test_accounts(self, server):
        body = server.get("/accountz").json()
        assert body["accounts"] == ["$G"]
        assert "system_account" not in body

    def test_varz(self, server):
        assert "system_account" not in server.varz()

    def test_it_does_not_exist(self, server):
        answer = server.get("/accountz?acc=$SYS")
        assert (answer.status, answer.body) == (400, b"Account $SYS does not exist")

    def test_another_name(self, shared_server):
        config = "accounts { SYS {users [{user: s, password: p}]} }\nsystem_account: SYS\n"
        assert sorted(shared_server("http: 127.0.0.1:-1\n" + config).get("/accountz").json()["accounts"]) == [
            "$G",
            "SYS",
        ]
