"""Who may connect: user and password, token, bcrypt, no_auth_user, and what a connection may do before CONNECT."""

from __future__ import annotations

import pytest

VIOLATION = b"-ERR 'Authorization Violation'"
# The bcrypt hash of "s3cr3t", cost 4.
BCRYPT_2A = "$2a$04$epUn/fwOC2XVQEHXuzVMu.t7IkBQ1z.vGGA6GT7uvTIdDSaoNvola"
USERS = """
    http: 127.0.0.1:-1
    authorization { users [ {user: alice, password: "wonder"}, {user: bob, password: "builder"} ] }
"""
SINGLE = "authorization { user: derek, password: foobar }\n"
TOKEN = "authorization { token: s3cr3t }\n"


def login(dial, server, user=None, password=None, **options):
    return dial(server).connect(**{"user": user, "pass": password, **options})


class TestUsers:
    @pytest.mark.parametrize(("user", "password"), [("alice", "wonder"), ("bob", "builder")])
    def test_accepted(self, shared_server, dial, user, password):
        assert login(dial, shared_server(USERS), user, password).flush() == []

    @pytest.mark.parametrize(
        ("user", "password"),
        [
            ("alice", "builder"),
            ("alice", ""),
            ("alice", None),
            (None, "wonder"),
            ("", ""),
            (None, None),
            ("carol", "x"),
            ("ALICE", "wonder"),
            ("alice", "wonder "),
            ("alice", "wonde"),
        ],
    )
    def test_refused(self, shared_server, dial, user, password):
        server = shared_server(USERS)
        wire = login(dial, server, user, password)
        assert wire.eof() == [VIOLATION]
        assert server.closed(wire.cid)["reason"] == "Authentication Failure"

    def test_refused_even_when_verbose(self, shared_server, dial):
        assert login(dial, shared_server(USERS), "alice", "no", verbose=True).eof() == [VIOLATION]

    def test_a_token_is_no_password(self, shared_server, dial):
        assert login(dial, shared_server(USERS), "alice", auth_token="wonder").eof() == [VIOLATION]

    def test_what_follows_a_refused_connect_is_ignored(self, shared_server, dial):
        server = shared_server(USERS)
        good = login(dial, server, "alice", "wonder").sub("after.refusal")
        good.flush()
        bad = login(dial, server, "alice", "no").pub("after.refusal")
        assert bad.eof() == [VIOLATION]
        assert good.flush() == []

    def test_the_log_names_the_user(self, start, dial):
        server = start(USERS)
        wire = login(dial, server, "alice", "no")
        wire.eof()
        line = server.wait_log(r"authentication error.*$").string
        assert "[ERR] " in line and line.endswith(f' - cid:{wire.cid} - authentication error - User "alice"'), line

    def test_the_log_says_nothing_of_the_password(self, start, dial):
        server = start(USERS)
        login(dial, server, "alice", "hunter2").eof()
        server.wait_log("authentication error")
        assert "hunter2" not in "\n".join(server.log)

    def test_connz_shows_the_user_when_asked(self, shared_server, dial):
        server = shared_server(USERS)
        wire = login(dial, server, "bob", "builder")
        wire.flush()
        entry = next(c for c in server.connz("auth=1") if c["cid"] == wire.cid)
        assert entry["authorized_user"] == "bob"
        assert "account" not in entry
        assert "authorized_user" not in next(c for c in server.connz() if c["cid"] == wire.cid)


class TestSingleUser:
    def test_accepted(self, shared_server, dial):
        assert login(dial, shared_server(SINGLE), "derek", "foobar").flush() == []

    @pytest.mark.parametrize(("user", "password"), [("derek", "x"), ("x", "foobar"), (None, None), ("derek", "")])
    def test_refused(self, shared_server, dial, user, password):
        assert login(dial, shared_server(SINGLE), user, password).eof() == [VIOLATION]

    def test_from_flags(self, start, dial):
        server = start("", "--user", "u", "--pass", "p")
        assert login(dial, server, "u", "p").flush() == []
        assert login(dial, server, "u", "x").eof() == [VIOLATION]


class TestToken:
    def test_accepted(self, shared_server, dial):
        assert login(dial, shared_server(TOKEN), auth_token="s3cr3t").flush() == []

    @pytest.mark.parametrize("token", ["x", "", None, "s3cr3", "s3cr3tt"])
    def test_refused(self, shared_server, dial, token):
        assert login(dial, shared_server(TOKEN), auth_token=token).eof() == [VIOLATION]

    def test_as_password_is_refused(self, shared_server, dial):
        assert login(dial, shared_server(TOKEN), "x", "s3cr3t").eof() == [VIOLATION]

    def test_from_flags(self, start, dial):
        server = start("", "--auth", "tok")
        assert login(dial, server, auth_token="tok").flush() == []
        assert login(dial, server, auth_token="kot").eof() == [VIOLATION]


class TestBcrypt:
    @pytest.mark.parametrize("prefix", ["$2a$", "$2b$", "$2y$"])
    def test_password(self, shared_server, dial, prefix):
        stored = prefix + BCRYPT_2A[4:]
        server = shared_server(f'authorization {{ users [ {{user: a, password: "{stored}"}} ] }}\n')
        assert login(dial, server, "a", "s3cr3t").flush() == []
        assert login(dial, server, "a", "s3cr3T").eof() == [VIOLATION]

    def test_the_hash_itself_is_no_password(self, shared_server, dial):
        server = shared_server(f'authorization {{ users [ {{user: a, password: "{BCRYPT_2A}"}} ] }}\n')
        assert login(dial, server, "a", BCRYPT_2A).eof() == [VIOLATION]

    def test_single_user(self, shared_server, dial):
        server = shared_server(f'authorization {{ user: a, password: "{BCRYPT_2A}" }}\n')
        assert login(dial, server, "a", "s3cr3t").flush() == []
        assert login(dial, server, "a", "x").eof() == [VIOLATION]

    def test_token(self, shared_server, dial):
        server = shared_server(f'authorization {{ token: "{BCRYPT_2A}" }}\n')
        assert login(dial, server, auth_token="s3cr3t").flush() == []
        assert login(dial, server, auth_token="x").eof() == [VIOLATION]

    def test_the_start_warns_of_plain_passwords_only(self, start):
        plain = start('authorization { user: a, password: "plain" }\n')
        assert any("Plaintext passwords detected, use nkeys or bcrypt" in line for line in plain.log)
        hashed = start(f'authorization {{ user: a, password: "{BCRYPT_2A}" }}\n')
        assert not any("Plaintext passwords" in line for line in hashed.log)


class TestNoAuthUser:
    CONFIG = """
        http: 127.0.0.1:-1
        authorization { users [
            {user: guest, password: "guest", permissions {publish: "open.>", subscribe: "open.>"}}
            {user: admin, password: "admin"}
        ] }
        no_auth_user: guest
    """

    def test_no_credentials(self, shared_server, dial):
        server = shared_server(self.CONFIG)
        wire = dial(server).ready()
        assert wire.sub("open.a").sub("closed", 2).flush() == [
            b"-ERR 'Permissions Violation for Subscription to \"closed\"'"
        ]
        assert next(c for c in server.connz("auth=1") if c["cid"] == wire.cid)["authorized_user"] == "guest"

    def test_credentials_still_count(self, shared_server, dial):
        assert login(dial, shared_server(self.CONFIG), "admin", "admin").sub("closed").flush() == []

    def test_wrong_credentials_are_refused(self, shared_server, dial):
        assert login(dial, shared_server(self.CONFIG), "admin", "x").eof() == [VIOLATION]

    def test_without_connect(self, shared_server, dial):
        wire = dial(shared_server(self.CONFIG)).lines("SUB open.a 1", "PUB open.a 1", "x", "SUB closed 2", "PING")
        assert wire.ops(5) == [
            b"+OK",
            b"+OK",
            b"MSG open.a 1 1\r\nx",
            b"-ERR 'Permissions Violation for Subscription to \"closed\"'",
            b"PONG",
        ]

    def test_the_account_is_that_users(self, shared_server, dial):
        config = """
            accounts { A { users [{user: a, password: "a"}] }, B { users [{user: b, password: "b"}] } }
            no_auth_user: b
        """
        server = shared_server(config)
        anonymous, b, a = dial(server).ready().sub("x"), login(dial, server, "b", "b"), login(dial, server, "a", "a")
        anonymous.flush()
        a.pub("x", "a").flush()
        b.pub("x", "b").flush()
        assert anonymous.flush() == [b"MSG x 1 1\r\nb"]


class TestBeforeConnect:
    """What a connection may do before CONNECT where authorization is needed."""

    @pytest.mark.parametrize("line", ["SUB foo 1", "PUB foo 0", "UNSUB 1", "HPUB foo 0 0"])
    def test_other_verbs_are_a_violation(self, shared_server, dial, line):
        server = shared_server(USERS)
        wire = dial(server).lines(line)
        assert wire.eof() == [VIOLATION]
        assert server.closed(wire.cid)["reason"] == "Authentication Failure"

    @pytest.mark.parametrize("line", ["PING", "PONG", "INFO {}", "+OK"])
    def test_these(self, shared_server, dial, line):
        assert dial(shared_server(USERS)).lines(line).eof() == [VIOLATION]

    @pytest.mark.parametrize("data", [b"G", b"\x16\x03\x01", b"\r\n", b"NOPE\r\n"])
    def test_garbage(self, shared_server, dial, data):
        assert dial(shared_server(USERS)).send(data).eof() == [VIOLATION]

    def test_a_connect_in_two_pieces(self, shared_server, dial):
        wire = dial(shared_server(USERS)).send('CONNECT {"user":"alice",').send('"pass":"wonder","verbose":false}\r\n')
        assert wire.flush() == []

    def test_a_long_first_line(self, shared_server, dial):
        wire = dial(shared_server(USERS)).lines("CONNECT " + "x" * 5000)
        assert wire.eof() == [b"-ERR 'maximum control line exceeded'"]

    def test_bad_connect_json(self, shared_server, dial):
        wire = dial(shared_server(USERS)).lines("CONNECT {bad")
        assert wire.eof() in ([], [VIOLATION])


class TestSeveralAtOnce:
    def test_users_do_not_mix(self, shared_server, dial):
        """Two users in the same account hear each other; each keeps its own name."""
        server = shared_server(USERS)
        alice, bob = login(dial, server, "alice", "wonder").sub("mix"), login(dial, server, "bob", "builder")
        alice.flush()
        bob.pub("mix", "x").flush()
        assert alice.flush() == [b"MSG mix 1 1\r\nx"]
        names = {c["cid"]: c["authorized_user"] for c in server.connz("auth=1")}
        assert (names[alice.cid], names[bob.cid]) == ("alice", "bob")
