"""What a user may publish and subscribe: allow, deny, queues, wildcards, responses, defaults."""

from __future__ import annotations

import pytest


def publish_violation(subject: str) -> bytes:
    return f"-ERR 'Permissions Violation for Publish to \"{subject}\"'".encode()


def subscribe_violation(subject: str, queue: str | None = None) -> bytes:
    using = f' using queue "{queue}"' if queue else ""
    return f"-ERR 'Permissions Violation for Subscription to \"{subject}\"{using}'".encode()


@pytest.fixture
def user(shared_server, dial):
    """Connects as a user with the given permissions; `boss` has none of them and hears everything."""

    def get(permissions: str, name: str = "u", **options: object):
        config = f"""
            authorization {{ users [
                {{user: u, password: "p", permissions {{ {permissions} }}}}
                {{user: boss, password: "p"}}
            ] }}
        """
        return dial(shared_server(config)).ready(**{"user": name, "pass": "p", **options})

    return get


class TestPublish:
    @pytest.mark.parametrize(
        ("permissions", "yes", "no"),
        [
            ('publish: "foo"', ["foo"], ["bar", "foo.a", "fo"]),
            ('publish: ["foo", "bar.*"]', ["foo", "bar.a"], ["bar", "bar.a.b", "baz"]),
            ('publish: "foo.>"', ["foo.a", "foo.a.b"], ["foo", "bar"]),
            ('publish: { allow: ">", deny: "secret.>" }', ["foo", "secret"], ["secret.a", "secret.a.b"]),
            ('publish: { deny: "foo" }', ["bar", "foo.a"], ["foo"]),
            ('publish: { deny: ["*.a", "x.>"] }', ["bar", "a", "y.b"], ["y.a", "x.y"]),
            ('publish: { allow: ["foo.*"], deny: ["foo.a"] }', ["foo.b"], ["foo.a", "bar"]),
            ("publish: []", ["foo", "a.b"], []),
            ("publish: { allow: [] }", ["foo"], []),
            ('publish: { deny: ">" }', [], ["foo", "a.b", "_INBOX.x"]),
            ('subscribe: "foo"', ["foo", "bar", "a.b"], []),
        ],
    )
    def test_rules(self, user, permissions, yes, no):
        wire = user(permissions)
        for subject in yes:
            assert wire.pub(subject).flush() == [], subject
        for subject in no:
            assert wire.pub(subject).flush() == [publish_violation(subject)], subject

    def test_a_refused_message_is_not_delivered(self, user):
        permissions = 'publish: "ok"'
        boss = user(permissions, "boss").sub(">")
        boss.flush()
        wire = user(permissions).pub("no", "1").pub("ok", "2")
        wire.flush()
        assert boss.flush() == [b"MSG ok 1 1\r\n2"]

    def test_every_time_anew(self, user):
        wire = user('publish: "ok"')
        for _ in range(3):
            wire.pub("no")
        assert wire.flush() == [publish_violation("no")] * 3

    def test_many_subjects(self, user):
        wire = user('publish: "ok.>"')
        for i in range(300):
            wire.pub(f"ok.{i}").pub(f"no.{i}")
        assert wire.flush() == [publish_violation(f"no.{i}") for i in range(300)]

    def test_hpub(self, user):
        wire = user('publish: "ok"').hpub("no", b"NATS/1.0\r\n\r\n")
        assert wire.flush() == [publish_violation("no")]

    def test_the_log_names_user_and_subject(self, start, dial):
        server = start('authorization { users [{user: u, password: "p", permissions {publish: ok, subscribe: ok}}] }')
        wire = dial(server).ready(user="u", **{"pass": "p"})
        wire.pub("no.pub").sub("no.sub").sub("no.q", 2, "g").flush()
        server.wait_log(r'\[ERR\] \S+ - cid:\d+ - "\$G/user:u" - Publish Violation - Subject "no.pub"$')
        server.wait_log(r'\[ERR\] \S+ - cid:\d+ - "\$G/user:u" - Subscription Violation - Subject "no.sub", SID 1$')
        server.wait_log(
            r'\[ERR\] \S+ - cid:\d+ - "\$G/user:u" - Subscription Violation - Subject "no.q", Queue: "g", SID 2$'
        )

    def test_no_503_for_a_refused_request(self, user):
        wire = user('publish: "ok"', no_responders=True).sub("inbox").pub("no", reply="inbox")
        assert wire.flush() == [publish_violation("no")]


class TestSubscribe:
    @pytest.mark.parametrize(
        ("permissions", "yes", "no"),
        [
            ('subscribe: "foo"', ["foo"], ["bar", "foo.a", "*", ">", "foo.>"]),
            ('subscribe: "foo.*"', ["foo.a", "foo.*"], ["foo", "foo.a.b", "*.a", ">", "foo.*.>"]),
            ('subscribe: "foo.>"', ["foo.a", "foo.*", "foo.>", "foo.a.>", "foo.*.b"], ["foo", "*.a", ">", "*.>"]),
            ('subscribe: { deny: "foo" }', ["bar", "foo.a", "*", ">"], ["foo"]),
            ('subscribe: { deny: "foo.>" }', ["foo", "bar", ">", "*.a"], ["foo.a", "foo.*", "foo.>"]),
            ('subscribe: { allow: "foo.*", deny: "foo.secret" }', ["foo.a", "foo.*"], ["foo.secret", "bar"]),
            ("subscribe: []", ["foo", ">"], []),
            ('subscribe: { deny: ">" }', [], ["foo", "*", ">"]),
            ('publish: "foo"', ["foo", "bar", ">"], []),
        ],
    )
    def test_rules(self, user, permissions, yes, no):
        wire = user(permissions)
        for i, subject in enumerate(yes):
            assert wire.sub(subject, f"y{i}").flush() == [], subject
        for i, subject in enumerate(no):
            assert wire.sub(subject, f"n{i}").flush() == [subscribe_violation(subject)], subject

    def test_a_full_wildcard_is_covered_by_a_star_in_its_place(self, user):
        """The rules are matched token by token, so "foo.*" lets "foo.>" in, and with it what is below."""
        wire = user('subscribe: "foo.*"').sub("foo.>").pub("foo.a").pub("foo.a.b")
        assert wire.flush() == [b"MSG foo.a 1 0\r\n", b"MSG foo.a.b 1 0\r\n"]

    def test_denied_subset_of_a_wildcard_is_filtered(self, user):
        permissions = 'subscribe: { allow: ">", deny: ["foo.secret", "bar.>"] }'
        wire = user(permissions).sub("foo.*", 1).sub(">", 2)
        wire.flush()
        boss = user(permissions, "boss")
        for subject in ("foo.a", "foo.secret", "bar.x", "bar"):
            boss.pub(subject)
        boss.flush()
        assert sorted(wire.flush()) == [b"MSG bar 2 0\r\n", b"MSG foo.a 1 0\r\n", b"MSG foo.a 2 0\r\n"]

    def test_filtered_every_time(self, user):
        permissions = 'subscribe: { deny: "foo.secret" }'
        wire = user(permissions).sub("foo.*")
        for _ in range(3):
            wire.pub("foo.secret").pub("foo.open")
        assert wire.flush() == [b"MSG foo.open 1 0\r\n"] * 3

    def test_filtered_for_queue_members_too(self, user):
        wire = user('subscribe: { deny: "foo.secret" }').sub("foo.*", 1, "q").pub("foo.secret").pub("foo.a")
        assert wire.flush() == [b"MSG foo.a 1 0\r\n"]

    def test_a_refused_subscription_takes_no_sid(self, user):
        wire = user('subscribe: "ok"').sub("no", 1).sub("ok", 1).pub("ok").pub("no")
        assert wire.flush() == [subscribe_violation("no"), b"MSG ok 1 0\r\n"]

    def test_invalid_subject(self, user):
        wire = user('subscribe: "ok"').sub("a..b")
        assert wire.flush() in ([b"-ERR 'Invalid Subject'"], [subscribe_violation("a..b")])

    def test_invalid_subject_where_all_is_allowed(self, user):
        assert user('publish: "ok"').sub("a..b").flush() == [b"-ERR 'Invalid Subject'"]


class TestQueues:
    @pytest.mark.parametrize(
        ("permissions", "yes", "no"),
        [
            ('subscribe: "foo"', [("foo", None), ("foo", "any")], []),
            ('subscribe: "foo v1"', [("foo", "v1")], [("foo", "v2"), ("foo", None)]),
            ('subscribe: ["foo v1.*"]', [("foo", "v1.a"), ("foo", "v1.b")], [("foo", "v1"), ("foo", "v1.a.b")]),
            ('subscribe: ["foo >"]', [("foo", "x"), ("foo", "y.z")], [("foo", None)]),
            ('subscribe: ["foo", "foo v1"]', [("foo", "v1"), ("foo", None)], [("foo", "v2")]),
            ('subscribe: { deny: "foo v1" }', [("foo", None), ("foo", "v2")], [("foo", "v1")]),
            ('subscribe: { deny: ["foo *.dev"] }', [("foo", None), ("foo", "dev")], [("foo", "a.dev")]),
            ('subscribe: { deny: "foo" }', [("bar", "q")], [("foo", None), ("foo", "q")]),
            ('subscribe: { allow: "foo.* q", deny: "foo.x q" }', [("foo.a", "q")], [("foo.x", "q"), ("foo.a", "r")]),
        ],
    )  # fmt: skip
    def test_rules(self, user, permissions, yes, no):
        wire = user(permissions)
        for i, (subject, queue) in enumerate(yes):
            assert wire.sub(subject, f"y{i}", queue).flush() == [], (subject, queue)
        for i, (subject, queue) in enumerate(no):
            assert wire.sub(subject, f"n{i}", queue).flush() == [subscribe_violation(subject, queue)], (subject, queue)


class TestResponses:
    """allow_responses: the reply subject of a delivered message may be published to for a while."""

    @staticmethod
    def ask(user, permissions, **options):
        """A service with these permissions that got one request with the reply inbox.1; the asker hears inbox.*."""
        service = user(permissions, **options).sub("svc")
        service.flush()
        asker = user(permissions, "boss").sub("inbox.*")
        asker.pub("svc", "?", reply="inbox.1").flush()
        assert service.op() == b"MSG svc 1 inbox.1 1\r\n?"
        return service, asker

    def test_one_answer(self, user):
        service, asker = self.ask(user, "subscribe: svc, allow_responses: true")
        assert service.pub("inbox.1", "!").flush() == []
        assert asker.flush() == [b"MSG inbox.1 1 1\r\n!"]

    def test_no_second_answer(self, user):
        service, _ = self.ask(user, "subscribe: svc, allow_responses: true")
        service.pub("inbox.1", "a").pub("inbox.1", "b")
        assert service.flush() == [publish_violation("inbox.1")]

    def test_other_subjects_are_closed(self, user):
        service, _ = self.ask(user, "subscribe: svc, allow_responses: true")
        assert service.pub("inbox.2").pub("foo").flush() == [publish_violation("inbox.2"), publish_violation("foo")]

    def test_without_it_there_is_no_answer(self, user):
        service, _ = self.ask(user, "subscribe: svc, publish: other")
        assert service.pub("inbox.1").flush() == [publish_violation("inbox.1")]

    def test_max(self, user):
        service, asker = self.ask(
            user, "subscribe: svc, allow_responses: { max: 3, expires: 1m }".replace("1m", '"1m"')
        )
        for _ in range(4):
            service.pub("inbox.1")
        assert service.flush() == [publish_violation("inbox.1")]
        assert len(asker.flush()) == 3

    def test_expiry(self, user):
        service, _ = self.ask(user, 'subscribe: svc, allow_responses: { max: 1000000, expires: "50ms" }')
        violation = []
        while not violation:
            violation = service.pub("inbox.1").flush()
        assert violation == [publish_violation("inbox.1")]

    def test_beside_publish_rules(self, user):
        service, _ = self.ask(user, "subscribe: svc, publish: log, allow_responses: true")
        assert service.pub("log").pub("inbox.1").flush() == []

    def test_deny_wins(self, user):
        service, _ = self.ask(user, 'subscribe: svc, publish: { deny: "inbox.>" }, allow_responses: true')
        got = service.pub("inbox.1").flush()
        assert got in ([], [publish_violation("inbox.1")])

    def test_each_request_has_its_own_count(self, user):
        service, asker = self.ask(user, "subscribe: svc, allow_responses: true")
        asker.pub("svc", "?", reply="inbox.2").flush()
        assert service.op() == b"MSG svc 1 inbox.2 1\r\n?"
        assert service.pub("inbox.2").pub("inbox.1").flush() == []
        assert asker.flush() == [b"MSG inbox.2 1 0\r\n", b"MSG inbox.1 1 0\r\n"]


class TestDefaults:
    def test_default_permissions_of_authorization(self, shared_server, dial):
        config = """
            authorization {
                default_permissions { publish: "d.>", subscribe: "d.>" }
                users [ {user: plain, password: "p"}, {user: own, password: "p", permissions {publish: "o"}} ]
            }
        """
        server = shared_server(config)
        plain, own = (dial(server).ready(user=name, **{"pass": "p"}) for name in ("plain", "own"))
        assert plain.pub("d.a").pub("o").flush() == [publish_violation("o")]
        assert plain.sub("x").flush() == [subscribe_violation("x")]
        assert own.pub("d.a").pub("o").flush() == [publish_violation("d.a")]
        assert own.sub("x").flush() == []

    def test_default_permissions_of_an_account(self, shared_server, dial):
        config = """
            accounts {
                A { default_permissions { publish: "a.>" }, users [{user: a, password: "p"}] }
                B { users [{user: b, password: "p"}] }
            }
        """
        server = shared_server(config)
        a, b = (dial(server).ready(user=name, **{"pass": "p"}) for name in ("a", "b"))
        assert a.pub("a.x").pub("b.x").flush() == [publish_violation("b.x")]
        assert b.pub("a.x").pub("b.x").flush() == []
