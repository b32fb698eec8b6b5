"""INFO and CONNECT: which fields, in which order, when they are sent, and what each CONNECT option does."""

from __future__ import annotations

import json
import re
import signal

import pytest

# A plain server's INFO, as it stands on the wire.
PLAIN_FIELDS = [
    "server_id", "server_name", "version", "proto", "git_commit", "go", "host", "port", "headers", "max_payload",
    "client_id", "client_ip",
    "api_lvl", "xkey",
]  # fmt: skip
OPTIONAL = {"git_commit"}


def fields(info: dict) -> list[str]:
    return [name for name in info if name not in OPTIONAL]


class TestInfo:
    def test_fields_and_their_order(self, server, dial):
        assert fields(dial(server).info) == [name for name in PLAIN_FIELDS if name not in OPTIONAL]

    def test_a_blank_precedes_the_line_end(self, server, dial):
        wire = dial(server, read=False)
        line = wire.line()
        assert line.startswith(b'INFO {"server_id":"N') and line.endswith(b"} ")

    def test_json_is_compact(self, server, dial):
        line = dial(server, read=False).line()
        assert line == b"INFO " + json.dumps(json.loads(line[5:]), separators=(",", ":")).encode() + b" "

    def test_types(self, server, dial):
        info = dial(server).info
        assert {name: type(info[name]).__name__ for name in fields(info)} == {
            "server_id": "str", "server_name": "str", "version": "str", "proto": "int", "go": "str", "host": "str",
            "port": "int",
            "headers": "bool", "max_payload": "int", "client_id": "int", "client_ip": "str", "api_lvl": "int",
            "xkey": "str",
        }  # fmt: skip

    def test_values(self, server, dial):
        info = dial(server).info
        assert re.fullmatch(r"N[A-Z2-7]{55}", info["server_id"])
        assert info["server_name"] == info["server_id"]
        assert info["version"] == "2.15.1"
        assert info["proto"] == 1
        assert info["host"] == "127.0.0.1"
        assert info["port"] == server.port
        assert info["headers"] is True
        assert info["max_payload"] == 1048576
        assert info["client_ip"] == "127.0.0.1"
        assert info["api_lvl"] == 5
        assert re.fullmatch(r"X[A-Z2-7]{55}", info["xkey"])

    def test_server_id_is_new_at_every_start(self, start, dial):
        assert dial(start()).info["server_id"] != dial(start()).info["server_id"]

    def test_server_name(self, shared_server, dial):
        assert dial(shared_server("server_name: hive")).info["server_name"] == "hive"

    def test_first_client_id_of_a_plain_server(self, start, dial):
        """Internal clients take the first ids; one of nats-server's may come late."""
        assert dial(start()).cid in (4, 5)

    def test_client_ids_count_up(self, start, dial):
        server = start()
        cids = [dial(server).cid for _ in range(4)]
        assert cids == sorted(set(cids))
        assert cids[-1] - cids[0] <= 4

    def test_no_header_support(self, shared_server, dial):
        assert dial(shared_server("no_header_support: true")).info["headers"] is False

    def test_auth_required(self, shared_server, dial):
        info = dial(shared_server("authorization { token: s3cr3t }")).info
        assert info["auth_required"] is True
        assert fields(info) == [
            "server_id", "server_name", "version", "proto", "go", "host", "port", "headers", "auth_required",
            "max_payload", "client_id",
            "client_ip", "api_lvl", "xkey",
        ]  # fmt: skip

    def test_auth_required_is_left_out_with_no_auth_user(self, shared_server, dial):
        config = 'authorization { users [{user: a, password: "a"}] }\nno_auth_user: a\n'
        assert "auth_required" not in dial(shared_server(config)).info

    def test_client_advertise(self, shared_server, dial):
        info = dial(shared_server("client_advertise: nats.example.com:4333")).info
        assert (info["host"], info["port"]) == ("nats.example.com", 4333)
        assert "connect_urls" not in info or "nats.example.com:4333" in info["connect_urls"]

    def test_max_payload(self, shared_server, dial):
        assert dial(shared_server("max_payload: 4KB")).info["max_payload"] == 4096

    def test_wildcard_host(self, start, dial):
        info = dial(start("listen: 0.0.0.0:-1", base="")).info
        assert info["host"] == "0.0.0.0"


class TestConnectInfo:
    """The second INFO, after the first PING that follows CONNECT."""

    def test_follows_the_pong(self, server, dial):
        wire = dial(server)
        wire.connect(protocol=1).lines("PING")
        assert wire.op() == b"PONG"
        info = wire.read_info()
        assert info["connect_info"] is True
        assert info["remote_account"] == "$G"
        assert "acc_is_sys" not in info

    def test_fields_and_their_order(self, server, dial):
        wire = dial(server)
        first = fields(wire.info)
        wire.connect(protocol=1).lines("PING")
        wire.op()
        assert fields(wire.read_info()) == [*first[:-2], "connect_info", "remote_account", *first[-2:]]

    def test_system_account(self, shared_server, dial):
        server = shared_server('accounts { SYS { users [{user: s, password: "s"}] } }\nsystem_account: SYS\n')
        wire = dial(server)
        wire.connect(protocol=1, user="s", **{"pass": "s"}).lines("PING")
        assert wire.op() == b"PONG"
        info = wire.read_info()
        assert (info["remote_account"], info["acc_is_sys"]) == ("SYS", True)

    def test_only_once(self, server, dial):
        wire = dial(server)
        wire.connect(protocol=1).lines("PING", "PING", "PING")
        assert [op[:5] for op in wire.ops(4)] == [b"PONG", b"INFO ", b"PONG", b"PONG"]

    def test_not_before_connect(self, server, dial):
        wire = dial(server).lines("PING")
        assert wire.op() == b"PONG"
        wire.connect(protocol=1).lines("PING", "PING")
        assert [op[:5] for op in wire.ops(3)] == [b"PONG", b"INFO ", b"PONG"]

    def test_not_without_ping(self, server, dial):
        wire = dial(server)
        wire.connect(protocol=1).sub("foo").pub("foo", "x")
        assert wire.op() == b"MSG foo 1 1\r\nx"

    @pytest.mark.parametrize("protocol", [0, None])
    def test_not_to_protocol_0(self, server, dial, protocol):
        wire = dial(server).connect(protocol=protocol).lines("PING", "PING")
        assert wire.ops(2) == [b"PONG", b"PONG"]

    def test_with_no_auth_user_it_says_auth_required(self, shared_server, dial):
        config = 'authorization { users [{user: a, password: "a"}] }\nno_auth_user: a\n'
        wire = dial(shared_server(config)).connect(protocol=1).lines("PING")
        wire.op()
        assert wire.read_info()["auth_required"] is True

    def test_max_payload_of_the_account(self, shared_server, dial):
        server = shared_server('accounts { A { users [{user: a, password: "a"}], limits { max_payload: 100 } } }')
        wire = dial(server)
        assert wire.info["max_payload"] == 1048576
        wire.connect(protocol=1, user="a", **{"pass": "a"}).lines("PING")
        wire.op()
        assert wire.read_info()["max_payload"] == 100


class TestDefaults:
    """An empty CONNECT means verbose, pedantic, echo, protocol 0, no headers."""

    def test_verbose(self, server, dial):
        assert dial(server).lines("CONNECT {}").op() == b"+OK"

    def test_verbose_is_on_before_connect(self, server, dial):
        wire = dial(server).lines("SUB foo 1", "PING")
        assert wire.ops(2) == [b"+OK", b"PONG"]

    def test_pedantic(self, server, dial):
        wire = dial(server).lines('CONNECT {"verbose":false}', "PUB foo.* 0", "")
        assert wire.flush() == [b"-ERR 'Invalid Publish Subject'"]

    def test_echo(self, server, dial):
        wire = dial(server).lines('CONNECT {"verbose":false}').sub("foo").pub("foo")
        assert wire.flush() == [b"MSG foo 1 0\r\n"]

    def test_headers_are_off(self, server, dial):
        wire = dial(server).lines('CONNECT {"verbose":false}', "HPUB foo 12 12", "NATS/1.0\r\n\r\n")
        assert wire.eof() == []

    def test_without_connect(self, server, dial):
        wire = dial(server).lines("SUB foo 1", "PUB foo 2", "hi", "PING")
        assert wire.ops(4) == [b"+OK", b"+OK", b"MSG foo 1 2\r\nhi", b"PONG"]


class TestOptions:
    def test_echo_off(self, server, dial):
        other = dial(server).ready().sub("echo.off")
        other.flush()
        wire = dial(server).ready(echo=False).sub("echo.off").sub("echo.*", 2, "q").pub("echo.off")
        assert wire.flush() == []
        assert other.op() == b"MSG echo.off 1 0\r\n"

    def test_protocol_2_is_refused(self, server, dial):
        wire = dial(server).connect(protocol=2)
        assert wire.eof() == [b"-ERR 'invalid client protocol'"]
        assert server.closed(wire.cid)["reason"] == "Bad Client Protocol Version"

    def test_negative_protocol_is_refused(self, server, dial):
        assert dial(server).connect(protocol=-1).eof() == [b"-ERR 'invalid client protocol'"]

    def test_no_responders_needs_headers(self, server, dial):
        wire = dial(server).connect(headers=False, no_responders=True)
        assert wire.eof() == [b"-ERR 'no responders requires headers support'"]
        assert server.closed(wire.cid)["reason"] == "No Responders Requires Headers"

    def test_unknown_fields_are_ignored(self, server, dial):
        assert dial(server).connect(whatever=[1, {"a": None}], tags=["x"]).flush() == []

    @pytest.mark.parametrize(
        "body",
        [
            '{"verbose":"yes"}', '{"verbose":1}', '{"pedantic":"x"}', '{"echo":0}', '{"protocol":"1"}',
            '{"protocol":1.5}', '{"user":5}',
            '{"pass":true}', '{"name":[]}', '{"headers":"true"}', '{"lang":{}}', "[]", "1", '"x"', "{", "}",
            "{'verbose':true}", "{} {}",
            '{"a":}', '{"verbose":tru}', '{"protocol":1e3}', '{"protocol":1.0}', "true",
        ],
    )  # fmt: skip
    def test_bad_json_closes_without_a_word(self, server, dial, body):
        wire = dial(server).lines("CONNECT " + body)
        assert wire.eof() == []
        assert server.closed(wire.cid)["reason"] == "Protocol Violation"

    @pytest.mark.parametrize(
        "body",
        [
            '{"verbose":null}', "null", '{"Verbose":true}', '{"VERBOSE":true,"x":1}',
            '{"verbose":false,"verbose":true}',
            '{ "verbose" : true }', '{"name":"\\u00e9\\ud83d\\ude00"}', '{"verbose":true,"user":null}',
        ],
    )  # fmt: skip
    def test_json_as_go_reads_it(self, server, dial, body):
        wire = dial(server).lines("CONNECT " + body)
        assert wire.op() == b"+OK"

    def test_field_names_ignore_case(self, server, dial):
        wire = (
            dial(server)
            .lines('CONNECT {"VERBOSE":false,"Echo":false,"PeDantic":false}')
            .sub("foo")
            .pub("foo")
            .lines("PING")
        )
        assert wire.op() == b"PONG"

    def test_the_last_of_two_equal_fields_wins(self, server, dial):
        wire = dial(server).lines('CONNECT {"verbose":true,"verbose":false}', "PING")
        assert wire.op() == b"PONG"

    def test_name_lang_version_are_shown(self, server, dial):
        wire = dial(server).ready(name="bee", lang="python", version="1.2.3")
        entry = next(c for c in server.connz() if c["cid"] == wire.cid)
        assert (entry["name"], entry["lang"], entry["version"]) == ("bee", "python", "1.2.3")

    def test_credentials_without_auth_are_ignored(self, server, dial):
        assert dial(server).connect(user="x", **{"pass": "y"}).flush() == []
        assert dial(server).connect(auth_token="x").flush() == []


class TestRepeatedConnect:
    def test_drops_the_subscriptions(self, wire):
        wire.sub("foo").connect().pub("foo")
        assert wire.flush() == []

    def test_changes_the_options(self, wire):
        wire.sub("foo").connect(echo=False).sub("foo", 2).pub("foo")
        assert wire.flush() == []

    def test_options_left_out_keep_their_value(self, server, dial):
        wire = dial(server).ready(echo=False)
        wire.lines("CONNECT {}").sub("foo").pub("foo")
        assert wire.flush() == []

    def test_authenticates_again(self, shared_server, dial):
        server = shared_server('authorization { users [{user: a, password: "a"}] }')
        wire = dial(server).ready(user="a", **{"pass": "a"})
        wire.connect(user="a", **{"pass": "wrong"})
        assert wire.eof() == [b"-ERR 'Authorization Violation'"]

    def test_second_connect_info(self, server, dial):
        wire = dial(server).connect(protocol=1).lines("PING")
        assert [op[:4] for op in wire.ops(2)] == [b"PONG", b"INFO"]
        wire.connect(protocol=1).lines("PING", "PING")
        assert wire.op() == b"PONG"


class TestVerbose:
    @pytest.fixture
    def loud(self, server, dial):
        wire = dial(server).connect(verbose=True)
        assert wire.op() == b"+OK"
        return wire

    def test_each_accepted_operation(self, loud):
        loud.lines("SUB foo 1", "UNSUB 1", "PUB foo 0", "", "HPUB foo 12 12", "NATS/1.0\r\n\r\n", "PING")
        assert loud.ops(5) == [b"+OK"] * 4 + [b"PONG"]

    def test_ok_precedes_the_message(self, loud):
        loud.lines("SUB foo 1", "PUB foo 0", "", "PING")
        assert loud.ops(4) == [b"+OK", b"+OK", b"MSG foo 1 0\r\n", b"PONG"]

    def test_bad_subject_gets_only_the_error(self, loud):
        loud.lines("SUB a..b 1", "PING")
        assert loud.ops(2) == [b"-ERR 'Invalid Subject'", b"PONG"]

    def test_pedantic_bad_publish_gets_both(self, server, dial):
        wire = dial(server).connect(verbose=True, pedantic=True).lines("PUB foo.> 0", "", "PING")
        assert wire.ops(4) == [b"+OK", b"-ERR 'Invalid Publish Subject'", b"+OK", b"PONG"]

    def test_unknown_sid_is_accepted(self, loud):
        loud.lines("UNSUB 99", "PING")
        assert loud.ops(2) == [b"+OK", b"PONG"]

    def test_permission_violation_gets_only_the_error(self, shared_server, dial):
        server = shared_server(
            'authorization { users [{user: a, password: "a", permissions {publish: ok, subscribe: ok}}] }'
        )
        wire = (
            dial(server)
            .connect(verbose=True, user="a", **{"pass": "a"})
            .lines("PUB no 0", "", "SUB no 1", "PUB ok 0", "", "PING")
        )
        assert wire.ops(5) == [
            b"+OK",
            b"-ERR 'Permissions Violation for Publish to \"no\"'",
            b"-ERR 'Permissions Violation for Subscription to \"no\"'",
            b"+OK",
            b"PONG",
        ]

    def test_quiet_again(self, loud):
        loud.lines('CONNECT {"verbose":false}', "SUB foo 1", "PING")
        assert loud.op() == b"PONG"


class TestPedantic:
    @pytest.mark.parametrize("subject", ["foo.*", "foo.>", "*", ">", "a..b", ".a", "a.", ".", "a.*.b"])
    def test_publish_subject_is_checked(self, server, dial, subject):
        wire = dial(server).ready(pedantic=True)
        wire.pub(subject)
        assert wire.flush() == [b"-ERR 'Invalid Publish Subject'"]

    @pytest.mark.parametrize("subject", ["foo", "foo*", "f>o.x", "a.b.c", "$SYS.x", "é"])
    def test_literal_subjects_pass(self, server, dial, subject):
        wire = dial(server).ready(pedantic=True)
        wire.pub(subject)
        assert wire.flush() == []

    def test_the_message_is_still_delivered(self, server, dial):
        wire = dial(server).ready(pedantic=True)
        wire.sub("foo.>").pub("foo.*", "x")
        assert sorted(wire.flush()) == [b"-ERR 'Invalid Publish Subject'", b"MSG foo.* 1 1\r\nx"]

    def test_reply_is_not_checked(self, server, dial):
        wire = dial(server).ready(pedantic=True)
        wire.pub("foo", reply="a.*")
        assert wire.flush() == []


class TestLameDuckInfo:
    """SIGUSR2: an INFO with ldm to clients of protocol 1, and nobody new."""

    def test_protocol_1_is_told_and_protocol_0_is_not(self, start, dial):
        server = start("lame_duck_duration: 30s\nlame_duck_grace_period: 1ms\n")
        new, old = dial(server), dial(server).ready()
        new.connect(protocol=1).lines("PING")
        new.op(), new.read_info()
        server.signal(signal.SIGUSR2)
        info = new.read_info()
        assert info["ldm"] is True
        assert "connect_info" not in info
        server.wait_log("Closing existing clients")
        server.signal(signal.SIGINT)
        assert old.eof() == []
