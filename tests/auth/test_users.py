"""Who is let in, as whom, and what the logs call them."""

from __future__ import annotations

import bcrypt
import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from natsc.auth.users import (
    Authenticator,
    compare_passwords,
    failure_text,
    is_bcrypt,
    log_label,
    name_for_log,
    raw_user,
)
from natsc.config.options import (
    Account,
    NkeyUser,
    Options,
    Permissions,
    SubjectPermission,
    TLSConfigOpts,
    User,
)
from tests.certs import Authority, name

PW = "pw"
BCRYPT_S3CR3T = bcrypt.hashpw(b"s3cr3t", bcrypt.gensalt(4)).decode()


class Peer:
    """A TLS connection's state, as far as authentication looks."""

    def __init__(self, *der: bytes) -> None:
        self._der = list(der)

    def peer_certs(self) -> list[bytes]:
        return self._der


def users(*pairs: tuple[str, str], **options: object) -> Authenticator:
    return Authenticator(Options(users=[User(username=user, password=password) for user, password in pairs], **options))


def account(name: str, *pairs: tuple[str, str], **fields: object) -> Account:
    made = Account(name, **fields)
    made.users = [User(username=user, password=password, account=made) for user, password in pairs]
    return made


def with_accounts(*accounts: Account, **options: object) -> Authenticator:
    return Authenticator(Options(accounts=list(accounts), users=[u for a in accounts for u in a.users], **options))


# No authentication


def test_everyone_is_let_into_the_global_account_without_configuration() -> None:
    auth = Authenticator(Options())
    grant = auth.authenticate({"user": "whoever", "pass": "x"})
    assert not auth.auth_required
    assert grant is not None
    assert (grant.account_name, grant.user, grant.permissions) == ("$G", "whoever", None)


@pytest.mark.parametrize("connect", [{"account": "A"}, {"new_account": True}])
def test_choosing_an_account_in_connect_is_refused(connect: dict[str, object]) -> None:
    assert Authenticator(Options()).authenticate(connect) is None


# Users, passwords, tokens


def test_user_with_the_right_password_is_let_in() -> None:
    grant = users(("a", "pw")).authenticate({"user": "a", "pass": "pw"})
    assert grant is not None and grant.user == "a" and grant.account_name == "$G"


@pytest.mark.parametrize(
    "connect",
    [
        {},
        {"user": "a"},
        {"user": "a", "pass": ""},
        {"user": "a", "pass": "p"},
        {"user": "a", "pass": "pw "},
        {"user": "b", "pass": "pw"},
        {"pass": "pw"},
        {"auth_token": "pw"},
        {"user": 7, "pass": "pw"},
        {"user": "a", "pass": ["pw"]},
        {"nkey": "UAAA", "sig": "AAA"},
    ],
)
def test_everything_but_user_and_password_is_refused(connect: dict[str, object]) -> None:
    assert users(("a", "pw")).authenticate(connect) is None


def test_single_user() -> None:
    auth = Authenticator(Options(username="u", password=PW))
    assert auth.authenticate({"user": "u", "pass": "pw"}) is not None
    assert auth.authenticate({"user": "U", "pass": "pw"}) is None
    assert auth.authenticate({"user": "u", "pass": "wp"}) is None


def test_token() -> None:
    auth = Authenticator(Options(authorization="t0k"))
    grant = auth.authenticate({"auth_token": "t0k"})
    assert grant is not None and grant.user == "[REDACTED]"
    assert auth.authenticate({"auth_token": "t0"}) is None
    assert auth.authenticate({"user": "t0k", "pass": "t0k"}) is None


def test_bcrypt_password_is_compared_on_a_thread() -> None:
    auth = users(("a", BCRYPT_S3CR3T), ("b", "pw"))
    assert auth.needs_thread({"user": "a", "pass": "s3cr3t"})
    assert not auth.needs_thread({"user": "b", "pass": "pw"})
    assert not auth.needs_thread({"user": "nobody"})
    assert auth.authenticate({"user": "a", "pass": "s3cr3t"}) is not None
    assert auth.authenticate({"user": "a", "pass": BCRYPT_S3CR3T}) is None


def test_bcrypt_token_is_compared_on_a_thread() -> None:
    auth = Authenticator(Options(authorization=BCRYPT_S3CR3T))
    assert auth.needs_thread({})
    assert auth.authenticate({"auth_token": "s3cr3t"}) is not None


@pytest.mark.parametrize("prefix", ["$2a$", "$2b$", "$2x$", "$2y$"])
def test_all_bcrypt_variants_are_one(prefix: str) -> None:
    assert compare_passwords(prefix + BCRYPT_S3CR3T[4:], "s3cr3t")


def test_bcrypt_reads_no_more_than_72_bytes() -> None:
    stored = bcrypt.hashpw(b"x" * 72, bcrypt.gensalt(4)).decode()
    assert compare_passwords(stored, "x" * 100)


def test_a_broken_hash_lets_nobody_in() -> None:
    assert is_bcrypt("$2a$04$short")
    assert not compare_passwords("$2a$04$short", "$2a$04$short")


@pytest.mark.parametrize("password", ["", "$", "$2a$", "$2a$4$x", "$2c$04$x", "$2a$0x$x", "$2a$²²$x", "x$2a$04$x"])
def test_a_password_that_only_looks_like_a_hash_is_a_password(password: str) -> None:
    assert not is_bcrypt(password)
    assert compare_passwords(password, password)


def test_a_hash_is_told_by_its_start() -> None:
    assert is_bcrypt("$2a$04$")


def test_nkey_users_alone_let_nobody_in() -> None:
    auth = Authenticator(Options(nkeys=[NkeyUser(nkey="UAAA")]))
    assert auth.auth_required
    assert auth.authenticate({"nkey": "UAAA", "sig": "x"}) is None


def test_proxy_required_lets_nobody_in_without_trusted_proxies() -> None:
    lines: list[str] = []
    auth = Authenticator(Options(users=[User(username="a", password=PW, proxy_required=True)]))
    assert auth.authenticate({"user": "a", "pass": "pw"}, debug=lines.append) is None
    assert lines == ["proxy connection required"]


def test_connection_type_must_be_allowed() -> None:
    auth = Authenticator(Options(users=[User(username="a", password=PW, allowed_connection_types={"WEBSOCKET"})]))
    assert auth.authenticate({"user": "a", "pass": "pw"}) is None
    assert auth.authenticate({"user": "a", "pass": "pw"}, conn_type="WEBSOCKET") is not None


# Accounts and permissions


def test_user_lands_in_its_account_with_its_limits() -> None:
    a = account("A", ("a", "pw"))
    a.limits.max_connections = 7
    grant = with_accounts(a).authenticate({"user": "a", "pass": "pw"})
    assert grant is not None and grant.account_name == "A"
    assert grant.limits is not None and grant.limits.max_connections == 7


def test_default_permissions_of_the_account_apply_to_users_without_any() -> None:
    own, default = Permissions(), Permissions()
    a = account("A", ("a", "pw"), ("b", "pw"), default_permissions=default)
    a.users[1].permissions = own
    auth = with_accounts(a)
    first, second = (auth.authenticate({"user": user, "pass": "pw"}) for user in "ab")
    assert first is not None and first.permissions is default
    assert second is not None and second.permissions is own


def test_users_of_the_system_account_alone_do_not_open_or_close_the_global_account() -> None:
    auth = with_accounts(account("SYS", ("admin", "pw")), system_account="SYS")
    anyone = auth.authenticate({})
    assert anyone is not None and anyone.account_name == "$G" and anyone.user.startswith("nats-")
    assert auth.auth_required and auth.auth_required_in_info
    assert auth.authenticate({"user": "admin", "pass": "pw"}).account_name == "SYS"  # type: ignore[union-attr]
    assert auth.authenticate({"user": "admin", "pass": "no"}) is None
    assert auth.authenticate({"user": "other"}) is None


def test_the_anonymous_user_survives_a_reload() -> None:
    opts = Options(accounts=[account("$SYS", ("admin", "pw"))])
    before = Authenticator(opts)
    after = Authenticator(opts, before)
    connect: dict[str, object] = {}
    assert before.authenticate(connect) is not None
    assert after.authenticate(connect) is not None
    assert not before.differs(after)


def test_an_authorization_block_closes_the_global_account() -> None:
    auth = with_accounts(account("SYS", ("admin", "pw")), system_account="SYS", auth_block_defined=True)
    assert auth.authenticate({}) is None


# no_auth_user


def test_no_auth_user_stands_for_those_without_credentials() -> None:
    auth = users(("a", "pw"), ("b", "pw"), no_auth_user="a")
    connect: dict[str, object] = {"verbose": False}
    grant = auth.authenticate(connect)
    assert grant is not None and grant.user == "a"
    assert auth.auth_required and not auth.auth_required_in_info


@pytest.mark.parametrize("connect", [{"user": "x"}, {"pass": "x"}, {"auth_token": "x"}])
def test_no_auth_user_stands_for_nobody_with_credentials(connect: dict[str, object]) -> None:
    assert users(("a", "pw"), no_auth_user="a").authenticate(connect) is None


def test_an_nkey_counts_as_credentials_only_where_nkeys_are_configured() -> None:
    opts = Options(users=[User(username="a", password=PW)], no_auth_user="a")
    assert Authenticator(opts).authenticate({"nkey": "UBBB"}) is not None
    opts.nkeys = [NkeyUser(nkey="UAAA")]
    assert Authenticator(opts).authenticate({"nkey": "UBBB"}) is None


def test_no_auth_user_with_bcrypt_password_is_refused_as_by_nats_server() -> None:
    connect: dict[str, object] = {}
    auth = users(("a", BCRYPT_S3CR3T), no_auth_user="a")
    assert not auth.needs_thread(connect) and connect == {}
    assert auth.authenticate(connect) is None
    assert failure_text(connect) == 'authentication error - User "a"'


def test_no_auth_user_may_leave_out_connect() -> None:
    assert users(("a", "pw"), no_auth_user="a").admits_without_connect()
    assert not users(("a", "pw")).admits_without_connect()


@pytest.mark.parametrize("field", [{"allowed_connection_types": {"MQTT"}}, {"proxy_required": True}])
def test_no_auth_user_without_connect_obeys_its_restrictions(field: dict[str, object]) -> None:
    auth = Authenticator(Options(users=[User(username="a", **field)], no_auth_user="a"))
    assert not auth.admits_without_connect()
    assert auth.authenticate({}) is None


# Certificates


def mapped(*names: str, **options: object) -> Authenticator:
    tls = TLSConfigOpts(verify=True, map=True)
    return users(*((user, "") for user in names), tls_map=True, tls_config=tls, **options)


def test_certificate_maps_by_email_then_dns_then_uri(authority: Authority) -> None:
    peer = Peer(
        authority.client(
            "cn", x509.UniformResourceIdentifier("spiffe://h/u"), x509.DNSName("h.example"), x509.RFC822Name("a@b.c")
        ).der
    )
    order = ["a@b.c", "h.example", "spiffe://h/u", "CN=cn"]
    while order:
        connect: dict[str, object] = {}
        grant = mapped(*order).authenticate(connect, tls=peer)
        assert grant is not None and grant.user == connect["user"] == order.pop(0)


def test_certificate_maps_by_dn_in_any_order(authority: Authority) -> None:
    peer = Peer(
        authority.client(
            name((NameOID.DOMAIN_COMPONENT, "com"), (NameOID.ORGANIZATION_NAME, "Acme"), (NameOID.COMMON_NAME, "x"))
        ).der
    )
    for user in ("CN=x,O=Acme,DC=com", "cn=x, o=Acme, dc=com", "DC=com,CN=x,O=Acme", "CN=x,O=Acme,DC=com"):
        assert mapped(user).authenticate({}, tls=peer) is not None
    for user in ("O=Acme,CN=x", "CN=x,CN=x,O=Acme", "CN=X,O=Acme,DC=com", "CN=x,O=Acme,DC=org", "x"):
        assert mapped(user).authenticate({}, tls=peer) is None


def test_a_dn_with_a_repeated_part_matches_no_other_name(authority: Authority) -> None:
    """CVE-2026-33248: every part of the certificate's name counts once."""
    peer = Peer(
        authority.client(
            name((NameOID.ORGANIZATION_NAME, "a"), (NameOID.ORGANIZATION_NAME, "b"), (NameOID.COMMON_NAME, "x"))
        ).der
    )
    assert mapped("O=a,O=a,CN=x").authenticate({}, tls=peer) is None
    assert mapped("O=a,O=b,CN=x").authenticate({}, tls=peer) is not None


def test_certificate_maps_by_subject_with_unknown_attributes(authority: Authority) -> None:
    peer = Peer(
        authority.client(
            name((NameOID.COMMON_NAME, "x"), (NameOID.EMAIL_ADDRESS, "a@b.c"), (NameOID.COUNTRY_NAME, "DE"))
        ).der
    )
    grant = mapped("CN=x,C=DE").authenticate({}, tls=peer)
    assert grant is not None and grant.user == "CN=x,C=DE"


@pytest.mark.parametrize("peer", [None, Peer()])
def test_mapping_without_certificate_is_refused(peer: Peer | None) -> None:
    assert mapped("CN=x").authenticate({"user": "CN=x"}, tls=peer) is None


def test_the_certificate_decides_whatever_user_is_sent(authority: Authority) -> None:
    warnings: list[str] = []
    connect: dict[str, object] = {"user": "CN=b"}
    auth = mapped("CN=a", "CN=b")
    grant = auth.authenticate(connect, tls=Peer(authority.client("a").der), warn=warnings.append)
    assert grant is not None and grant.user == "CN=a"
    assert warnings == ['User "CN=b" found in connect proto, but user required from cert']


def test_a_mapped_user_with_password_must_send_it(authority: Authority) -> None:
    auth = users(("CN=a", "pw"), tls_map=True)
    peer = Peer(authority.client("a").der)
    assert auth.authenticate({}, tls=peer) is None
    assert auth.authenticate({"pass": "pw"}, tls=peer) is not None


def test_a_user_mapped_on_another_listener_cannot_log_in_with_an_empty_password() -> None:
    opts = Options(users=[User(username="CN=a")])
    assert Authenticator(opts).authenticate({"user": "CN=a"}) is not None
    opts.websocket.port, opts.websocket.tls_map = 8080, True
    assert Authenticator(opts).authenticate({"user": "CN=a"}) is None
    opts.users[0].allowed_connection_types = {"STANDARD"}
    assert Authenticator(opts).authenticate({"user": "CN=a"}) is not None


def test_mapping_obeys_allowed_connection_types(authority: Authority) -> None:
    auth = Authenticator(Options(users=[User(username="CN=a", allowed_connection_types={"MQTT"})], tls_map=True))
    assert auth.authenticate({}, tls=Peer(authority.client("a").der)) is None


# Warnings and logs


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        (Authenticator(Options()), False),
        (Authenticator(Options(username="u", password=PW)), True),
        (Authenticator(Options(username="u", password=BCRYPT_S3CR3T)), False),
        (Authenticator(Options(authorization="token")), False),
        (users(("a", BCRYPT_S3CR3T)), False),
        (users(("a", BCRYPT_S3CR3T), ("b", "pw")), True),
        (users(("a", "")), True),
        (mapped("CN=a"), False),
        (users(("CN=a", "pw"), tls_map=True), True),
        (with_accounts(account("SYS", ("a", BCRYPT_S3CR3T)), system_account="SYS"), False),
    ],
)
def test_plaintext_passwords_are_warned_of(auth: Authenticator, expected: bool) -> None:
    assert auth.plaintext_passwords is expected


@pytest.mark.parametrize(
    ("connect", "in_log", "label", "raw"),
    [
        ({}, 'User "N/A"', "", ""),
        ({"user": 'q"b\x01é'}, 'User "q\\"b\\x01é"', 'user:q"b\x01é', 'q"b\x01é'),
        ({"auth_token": "t"}, 'Token "[REDACTED]"', "token", "[REDACTED]"),
        ({"nkey": "UA", "user": "u"}, 'Nkey "UA"', "nkey:UA", "UA"),
        ({"user": "u", "auth_token": "t"}, 'User "u"', "user:u", "u"),
    ],
)
def test_names_of_a_connection(connect: dict[str, object], in_log: str, label: str, raw: str) -> None:
    assert (name_for_log(connect), log_label(connect), raw_user(connect)) == (in_log, label, raw)


def test_a_failure_without_a_name_has_the_short_text() -> None:
    assert failure_text({}) == "authentication error"


# Reload


def test_nothing_differs_between_equal_options() -> None:
    assert not users(("a", "pw")).differs(users(("a", "pw")))


def test_changed_users_differ() -> None:
    diff = users(("a", "pw"), ("b", "pw"), ("c", "pw")).differs(users(("a", "pw"), ("b", "new"), ("d", "pw")))
    assert diff.users == {"b", "c", "d"} and not diff.everyone
    assert diff.concerns({"user": "b"}) and not diff.concerns({"user": "a"})


def test_changed_permissions_differ() -> None:
    old, new = users(("a", "pw")), users(("a", "pw"))
    new._users["a"].permissions = Permissions(publish=SubjectPermission(deny=["x"]))
    assert old.differs(new).users == {"a"}


def test_changed_account_limits_differ() -> None:
    before, after = account("A", ("a", "pw")), account("A", ("a", "pw"))
    after.limits.max_payload = 5
    assert with_accounts(before).differs(with_accounts(after)).accounts == {"A"}


def test_a_new_no_auth_user_concerns_everyone() -> None:
    diff = users(("a", "pw")).differs(users(("a", "pw"), no_auth_user="a"))
    assert diff.everyone and diff.concerns({})


def test_moved_users() -> None:
    auth = with_accounts(account("A", ("a", "pw")))
    assert not auth.has_moved({"user": "a"}, "A")
    assert auth.has_moved({"user": "a"}, "B")
    assert auth.has_moved({"user": "gone"}, "A")
    assert not auth.has_moved({}, "$G")
