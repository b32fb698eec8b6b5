"""TLS without I/O: the server's side of a connection over two memory buffers, and the contexts that it is made from.

DESIGN. asyncio's start_tls can't take bytes that were already read, and natsc has read some: the first bytes tell a
PROXY header, a TLS handshake and a plain client apart. So a TLSLayer sits between socket and engine: feed() what was
received, give what it returns to the engine; write() what the engine sends; after either, send what take_output()
returns.

1. The plaintext that feed() returns lies in a scratch buffer shared by all connections of a loop: it is valid until
   the next feed() of any of them.
2. Before the handshake is done a peer makes a connection hold no more than HANDSHAKE_BYTES_MAX of what it sent.
3. The ssl module (12 ms and 6 MB) is imported where it is first used: a server without TLS never does.

Python's ssl lacks some of what Go's crypto/tls has: see docs/differences.md (curves, order of TLS 1.3 suites, OCSP
stapling).
"""

from __future__ import annotations

from natsc.config.errors import ConfigError
from natsc.oserrors import path_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from natsc.config.options import TLSConfigOpts

FEED_BYTES_MAX = 256 * 1024
HANDSHAKE_BYTES_MAX = 192 * 1024
# A record that was cut in two may add to what one feed() decrypts.
SCRATCH_BYTES = FEED_BYTES_MAX + 32 * 1024
# More than this in one go makes a connection's memory buffers grow, and OpenSSL never makes them smaller.
_PIECE_BYTES = 64 * 1024

RATE_INTERVAL_NS = 1_000_000_000

_RECORD_HEADER_BYTES = 5
_RECORD_ALERT, _RECORD_HANDSHAKE, _SSLV2 = 0x15, 0x16, 0x80

# Go's names and OpenSSL's, in the order in which Go prefers them whatever the configuration's order is.
_TLS12_SUITES = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    # From here on: insecure, only with allow_insecure_cipher_suites. Some are not in today's OpenSSL.
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA": "ECDHE-RSA-DES-CBC3-SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA": "DES-CBC3-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256": "ECDHE-ECDSA-AES128-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256": "ECDHE-RSA-AES128-SHA256",
    "TLS_RSA_WITH_AES_128_CBC_SHA256": "AES128-SHA256",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA": "ECDHE-ECDSA-RC4-SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA": "ECDHE-RSA-RC4-SHA",
    "TLS_RSA_WITH_RC4_128_SHA": "RC4-SHA",
}
_SECURE_SUITES = tuple(_TLS12_SUITES)[:10]

_GO_NAMES = {openssl: go for go, openssl in _TLS12_SUITES.items()}

_CURVES = {
    "X25519": "X25519",
    "CurveP256": "prime256v1",
    "CurveP384": "secp384r1",
    "CurveP521": "secp521r1",
    "X25519MLKEM768": "X25519MLKEM768",
    "SecP256r1MLKEM768": "SecP256r1MLKEM768",
    "SecP384r1MLKEM1024": "SecP384r1MLKEM1024",
}

_VERSIONS = {"TLSv1.2": "1.2", "TLSv1.3": "1.3"}

# OpenSSL's reason for a failed handshake and what nats-server's log says; an alert of the peer has names of its own.
_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "tls: client didn't provide a certificate",
    "NO_SHARED_CIPHER": "tls: no cipher suite supported by both client and server",
    "UNSUPPORTED_PROTOCOL": "tls: client offered only unsupported versions",
    "NO_CERTIFICATE_SET": "tls: no certificates configured",
    "NO_SUITABLE_SIGNATURE_ALGORITHM": "tls: peer doesn't support any of the certificate's signature algorithms",
    "NO_SUITABLE_KEY_SHARE": "tls: no key exchanges supported by both client and server",
}
_ALERTS = {
    "UNEXPECTED_MESSAGE": "unexpected message",
    "BAD_RECORD_MAC": "bad record MAC",
    "RECORD_OVERFLOW": "record overflow",
    "HANDSHAKE_FAILURE": "handshake failure",
    "BAD_CERTIFICATE": "bad certificate",
    "UNSUPPORTED_CERTIFICATE": "unsupported certificate",
    "CERTIFICATE_REVOKED": "revoked certificate",
    "CERTIFICATE_EXPIRED": "expired certificate",
    "CERTIFICATE_UNKNOWN": "unknown certificate",
    "ILLEGAL_PARAMETER": "illegal parameter",
    "UNKNOWN_CA": "unknown certificate authority",
    "ACCESS_DENIED": "access denied",
    "DECODE_ERROR": "error decoding message",
    "DECRYPT_ERROR": "error decrypting message",
    "PROTOCOL_VERSION": "protocol version not supported",
    "INSUFFICIENT_SECURITY": "insufficient security level",
    "INTERNAL_ERROR": "internal error",
    "USER_CANCELLED": "user canceled",
    "UNRECOGNIZED_NAME": "unrecognized name",
    "CERTIFICATE_REQUIRED": "certificate required",
}

_PAIR_PROBLEMS = {
    "KEY_VALUES_MISMATCH": "tls: private key does not match public key",
    "KEY_TYPE_MISMATCH": "tls: private key type does not match public key type",
    "NO_CERTIFICATE_ASSIGNED": "tls: private key type does not match public key type",
}

# X509_V_ERR_* of OpenSSL: Go tells these apart; all others become their OpenSSL text.
_UNKNOWN_AUTHORITY = frozenset((2, 18, 19, 20, 21, 27))
_NOT_VALID_NOW = frozenset((9, 10))
_INVALID_PURPOSE = 26


class TLSConfigError(ConfigError):
    """A `tls {}` block can't be put to use; the text is for the operator."""


class TLSError(Exception):
    """A TLS connection failed: send what take_output() has (an alert) and close. The text is for the log.

    probe: the peer never spoke TLS (a port scan, a load balancer's check), which is only worth a debug line.
    """

    def __init__(self, text: str, *, probe: bool = False) -> None:
        super().__init__(text)
        self.probe = probe


# Contexts


def server_context(tls_opts: TLSConfigOpts) -> ssl.SSLContext:
    """The context for new connections of a listener. A reload makes a new one; running connections keep theirs.

    Raises TLSConfigError, with nats-server's text where it has one.
    """
    pairs = list(tls_opts.certificates)
    if tls_opts.cert_file or tls_opts.key_file:
        pairs = [(tls_opts.cert_file, tls_opts.key_file)]
    contexts = []
    for index, pair in enumerate(pairs or [None]):
        context = _bare_context(tls_opts)
        if pair is not None:
            position = f" {index + 1}/{len(pairs)}" if tls_opts.certificates else ""
            _load_pair(context, *pair, position)
        contexts.append(context)
    if len(contexts) > 1:
        names = [_certificate_names(cert_file) for cert_file, _ in pairs]
        contexts[0].sni_callback = _choose_by_name(list(zip(names, contexts, strict=True)))
    return contexts[0]


def _bare_context(tls_opts: TLSConfigOpts) -> ssl.SSLContext:
    """A context with everything but a certificate."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_COMPRESSION
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if tls_opts.min_version == "1.3" else ssl.TLSVersion.TLSv1_2
    context.num_tickets = 1
    _set_suites(context, tls_opts.ciphers)
    _set_curves(context, tls_opts.curve_preferences)
    if tls_opts.verify or tls_opts.client_auth_required:
        context.verify_mode = ssl.CERT_REQUIRED
        # Go takes any certificate of the file as the end of a chain, an intermediate one too.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if not tls_opts.ca_file:
            context.set_default_verify_paths()
    if tls_opts.ca_file:
        try:
            context.load_verify_locations(tls_opts.ca_file)
        except ssl.SSLError:
            raise TLSConfigError("failed to parse root ca certificate") from None
        except OSError as error:
            raise TLSConfigError(path_error("open", tls_opts.ca_file, error)) from None
    return context


def _set_suites(context: ssl.SSLContext, names: list[str] | None) -> None:
    import ssl

    chosen = [openssl for go, openssl in _TLS12_SUITES.items() if go in (names or _SECURE_SUITES)]
    if not chosen:
        # None but TLS 1.3 suites, which are not for choosing: so TLS 1.2 is out.
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        return
    try:
        # Security level 1 is Go's floor: RSA keys of 1024 bits.
        context.set_ciphers(":".join([*chosen, "@SECLEVEL=1"]))
    except ssl.SSLError:
        raise TLSConfigError(
            f"cipher suites not supported by {ssl.OPENSSL_VERSION}: {', '.join(names or ())}"
        ) from None


def _set_curves(context: ssl.SSLContext, names: list[str] | None) -> None:
    """Python's ssl takes one curve: the first configured that this OpenSSL has."""
    if not names or set(names) >= set(_CURVES):
        return
    for name in names:
        try:
            context.set_ecdh_curve(_CURVES[name])
        except ValueError:
            continue
        return
    import ssl

    raise TLSConfigError(f"curve preferences not supported by {ssl.OPENSSL_VERSION}: {', '.join(names)}")


def _load_pair(context: ssl.SSLContext, cert_file: str, key_file: str, position: str) -> None:
    import ssl

    if not key_file:
        raise TLSConfigError("missing 'key_file' in TLS configuration")
    if not cert_file:
        raise TLSConfigError("missing 'cert_file' in TLS configuration")
    try:
        for path in (cert_file, key_file):
            with open(path, "rb"):
                pass  # OpenSSL doesn't say which of the two it could not open
        # An encrypted key must fail, not ask on the terminal.
        context.load_cert_chain(cert_file, key_file, password=lambda: b"")
    except ssl.SSLError as error:
        text = _PAIR_PROBLEMS.get(error.reason or "", "tls: failed to parse certificate or private key")
        raise TLSConfigError(f"error parsing X509 certificate/key pair{position}: {text}") from None
    except OSError as error:
        text = path_error("open", path, error)
        raise TLSConfigError(f"error parsing X509 certificate/key pair{position}: {text}") from None


def _first_certificate(cert_file: str) -> bytes | None:
    import ssl

    with open(cert_file, encoding="latin-1") as file:
        _, begin, rest = file.read().partition("-----BEGIN CERTIFICATE-----")
    body, end, _ = rest.partition("-----END CERTIFICATE-----")
    return ssl.PEM_cert_to_DER_cert(begin + body + end) if end else None


def _certificate_names(cert_file: str) -> frozenset[str]:
    """The DNS names that a certificate is for, in lower case; none where it can't be read."""
    from natsc.auth.certificate import Certificate, MalformedCertificate

    der = _first_certificate(cert_file)
    try:
        return frozenset() if der is None else frozenset(name.lower() for name in Certificate(der).dns_names)
    except MalformedCertificate:
        return frozenset()


def _choose_by_name(
    choices: list[tuple[frozenset[str], ssl.SSLContext]],
) -> Callable[[ssl.SSLSocket | ssl.SSLObject, str | None, ssl.SSLContext], None]:
    """For the client's server name: the first certificate that is for it, else the first of all."""

    def choose(connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        if name is None:
            return
        name = name.lower().rstrip(".")
        wildcard = "*." + name.partition(".")[2]
        for names, context in choices:
            if name in names or wildcard in names:
                connection.context = context
                return

    return choose


# Connections


def make_scratch() -> memoryview:
    """The buffer that all TLS connections of one loop decrypt into."""
    return memoryview(bytearray(SCRATCH_BYTES))


class TLSLayer:
    """One TLS connection, the server's end.

    handshake_done: plaintext may be written. peer_closed: the peer has said goodbye (close_notify); nothing more comes.
    """

    __slots__ = (
        "_body_left", "_first", "_handshake_bytes", "_head", "_incoming", "_object", "_outgoing", "_output",
        "_peer_certs", "_scratch", "handshake_done", "peer_closed",
    )  # fmt: skip

    def __init__(self, context: ssl.SSLContext, scratch: memoryview) -> None:
        import ssl

        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._output: list[bytes] = []
        self._peer_certs: list[bytes] | None = None
        self._scratch = scratch
        # Where in a record the handshake's input ends: the bytes of its header so far, what its body still lacks.
        self._first = True
        self._head = b""
        self._body_left = 0
        self._handshake_bytes = 0
        self.handshake_done = False
        self.peer_closed = False

    def feed(self, data: bytes | bytearray | memoryview) -> memoryview:
        """Takes ciphertext, at most FEED_BYTES_MAX; returns the plaintext in it, often empty. Raises TLSError."""
        assert len(data) <= FEED_BYTES_MAX
        view = memoryview(data)
        filled = 0
        for at in range(0, len(view), _PIECE_BYTES):
            piece = view[at : at + _PIECE_BYTES]
            if self.handshake_done:
                self._incoming.write(piece)
            elif not self._handshake(piece):
                continue
            filled = self._decrypt(filled)
        return self._scratch[:filled]

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypts plaintext; take_output() has the result. Not before handshake_done. Raises TLSError."""
        import ssl

        assert self.handshake_done
        view = memoryview(data)
        try:
            for at in range(0, len(view), _PIECE_BYTES):
                if at:
                    self._output.append(self._outgoing.read())
                self._object.write(view[at : at + _PIECE_BYTES])
        except ssl.SSLError as error:
            raise TLSError(_error_text(error)) from error

    def take_output(self) -> bytes:
        """What is to be sent now: b"" where nothing is."""
        output = self._outgoing.read()
        if self._output:
            output = b"".join([*self._output, output])
            self._output.clear()
        return output

    def close_notify(self) -> None:
        """Says goodbye; take_output() has the alert. No effect before the handshake is done."""
        import ssl

        if not self.handshake_done:
            return
        try:
            self._object.unwrap()
        except ssl.SSLError:
            return  # it waits for the peer's goodbye, which nobody needs

    def _handshake(self, data: memoryview) -> bool:
        """Takes the next bytes of the handshake; whether it is done."""
        import ssl

        self._follow_records(data)
        self._handshake_bytes += len(data)
        self._incoming.write(data)
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            if self._handshake_bytes > HANDSHAKE_BYTES_MAX:
                raise TLSError("tls: handshake message too large") from None
        except ssl.SSLError as error:
            raise TLSError(_error_text(error)) from error
        else:
            self.handshake_done = True
        return self.handshake_done

    def _follow_records(self, data: memoryview) -> None:
        at, size = 0, len(data)
        while at < size:
            if self._body_left:
                step = min(self._body_left, size - at)
                self._body_left -= step
                at += step
                continue
            step = min(_RECORD_HEADER_BYTES - len(self._head), size - at)
            self._head += bytes(data[at : at + step])
            at += step
            if len(self._head) < _RECORD_HEADER_BYTES:
                return
            if self._first:
                self._first = False
                _check_first_record(self._head)
            self._body_left = self._head[3] << 8 | self._head[4]
            self._head = b""

    @property
    def inside_record(self) -> bool:
        """Before the handshake is done: whether a record has begun and isn't all there."""
        return bool(self._head or self._body_left)

    def _decrypt(self, filled: int) -> int:
        """Decrypts what has arrived, behind the first `filled` bytes of the scratch; returns how many there are now."""
        import ssl

        scratch, incoming, connection = self._scratch, self._incoming, self._object
        try:
            # The test at the end spares most calls an exception: a read at the end of a record raises SSLWantReadError.
            while incoming.pending or connection.pending():
                count: int = connection.read(SCRATCH_BYTES, scratch[filled:])  # type: ignore[assignment]
                if not count:
                    self.peer_closed = True
                    break
                filled += count
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            raise TLSError(_error_text(error)) from error
        return filled

    # What logs, monitoring and authentication ask

    def version(self) -> str:
        """The protocol version as monitoring shows it: "1.3"."""
        version = self._object.version() or ""
        return _VERSIONS.get(version, version)

    def cipher(self) -> str:
        """The cipher suite by its IANA name, as Go prints it."""
        cipher = self._object.cipher()
        return _GO_NAMES.get(cipher[0], cipher[0]) if cipher else ""

    def peer_certs(self) -> list[bytes]:
        """The DER of the certificates that the peer sent, its own first; empty where it sent none.

        A resumed session has the peer's own alone. They are kept from the first call on, so that later ones, which may
        come from a worker thread, don't touch the connection.
        """
        if self._peer_certs is None:
            self._peer_certs = self._read_peer_certs()
        return self._peer_certs

    def _read_peer_certs(self) -> list[bytes]:
        connection = self._object
        own = connection.getpeercert(binary_form=True)
        if own is None:
            return []
        # Public since Python 3.13; before, a method of the object behind.
        public = getattr(connection, "get_unverified_chain", None)
        if public is not None:
            chain = list(public())
        else:
            found = connection._sslobj.get_unverified_chain()  # type: ignore[attr-defined]
            chain = [certificate.public_bytes(_ENCODING_DER) for certificate in found or ()]
        return [own, *chain[1:]]

    def verified_chain(self) -> list[bytes]:
        """The DER of the peer's certificate and of those that vouch for it, up to a trusted one; empty without one.

        Of a resumed session it is the peer's own alone, which was verified when the session began.
        """
        import ssl

        connection = self._object
        if connection.context.verify_mode == ssl.CERT_NONE:
            return []
        # Public since Python 3.13; before, a method of the object behind.
        public = getattr(connection, "get_verified_chain", None)
        if public is not None:
            chain = list(public())
        else:
            found = connection._sslobj.get_verified_chain()  # type: ignore[attr-defined]
            chain = [certificate.public_bytes(_ENCODING_DER) for certificate in found or ()]
        return chain or self.peer_certs()[:1]

    def require_pinned(self, pinned: set[str], debug: Callable[[str], None]) -> None:
        """Raises TLSError unless the peer's key is in `pinned` (hexadecimal SHA-256 of its SubjectPublicKeyInfo)."""
        from hashlib import sha256

        from natsc.auth.certificate import Certificate, MalformedCertificate

        certs = self.peer_certs()
        if not certs:
            debug("Failed pinned cert test as client did not provide a certificate")
            raise TLSError("certificate not pinned")
        try:
            key_id = sha256(Certificate(certs[0]).spki).hexdigest()
        except MalformedCertificate as error:
            raise TLSError(f"tls: failed to parse client certificate: {error}") from error
        if key_id not in pinned:
            debug(f"Failed pinned cert test for key id: {key_id}")
            raise TLSError("certificate not pinned")


_ENCODING_DER = 2  # _ssl.ENCODING_DER


def _check_first_record(head: bytes) -> None:
    """Raises TLSError unless a connection's first record header is TLS at all."""
    if head[0] == _SSLV2:
        raise TLSError("tls: unsupported SSLv2 handshake received")
    if head[0] not in (_RECORD_ALERT, _RECORD_HANDSHAKE) or head[1] >= 0x10:
        raise TLSError("tls: first record does not look like a TLS handshake", probe=True)


def _error_text(error: ssl.SSLError) -> str:
    """What nats-server's log would say."""
    verify_code = getattr(error, "verify_code", None)
    if verify_code is not None:
        if verify_code in _UNKNOWN_AUTHORITY:
            problem = "certificate signed by unknown authority"
        elif verify_code in _NOT_VALID_NOW:
            problem = "certificate has expired or is not yet valid"
        elif verify_code == _INVALID_PURPOSE:
            problem = "certificate specifies an incompatible key usage"
        else:
            problem = error.verify_message  # type: ignore[attr-defined]
        return f"tls: failed to verify certificate: x509: {problem}"
    reason = error.reason or ""
    if reason in _REASONS:
        return _REASONS[reason]
    alert = _ALERTS.get(
        reason.removeprefix("SSLV3_").removeprefix("TLSV13_").removeprefix("TLSV1_").removeprefix("ALERT_")
    )
    if alert is not None and reason.startswith(("SSLV3_", "TLSV1")):
        return f"remote error: tls: {alert}"
    return f"tls: {reason.lower().replace('_', ' ')}" if reason else f"tls: {error}"


class RateLimiter:
    """connection_rate_limit: how many TLS handshakes may begin in a second. `blocked` counts those refused."""

    __slots__ = ("_count", "_end_ns", "_limit", "blocked")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0
        self._end_ns = -1
        self.blocked = 0

    def allow(self, now_ns: int) -> bool:
        """Whether a connection may go on. A second begins with the first connection after the last one ended."""
        if now_ns > self._end_ns:
            self._count = 0
            self._end_ns = now_ns + RATE_INTERVAL_NS
        self._count += 1
        if self._count <= self._limit:
            return True
        self.blocked += 1
        return False

    def take_blocked(self) -> int:
        """How many were refused since the last call: logged once a second where any were."""
        blocked, self.blocked = self.blocked, 0
        return blocked
