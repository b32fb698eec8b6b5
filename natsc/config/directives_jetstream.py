"""`jetstream` of the server: parsed and checked."""

from __future__ import annotations

from natsc.config.errors import Finding
from natsc.config.gotext import GoError, format_value, parse_duration, parse_int, quote, type_name, wrap_int64
from natsc.config.options import SYNC_INTERVAL, JSLimitOpts, JSTpmOpts
from natsc.config.values import Last, Report, as_bool, as_int, as_str, duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from natsc.config.options import Options
    from natsc.config.parser import Token

_SHIFTS = {"K": 10, "M": 20, "G": 30, "T": 40}
_STRINGS = {
    "domain": "jetstream_domain", "key": "jetstream_key", "ek": "jetstream_key", "encryption_key": "jetstream_key",
    "prev_key": "jetstream_old_key", "prev_ek": "jetstream_old_key", "prev_encryption_key": "jetstream_old_key",
    "extension_hint": "jetstream_ext_hint",
}  # fmt: skip
_SIZES = {
    "max_memory_store": ("jetstream_max_memory", "max_mem_store"),
    "max_mem_store": ("jetstream_max_memory", "max_mem_store"),
    "max_mem": ("jetstream_max_memory", "max_mem_store"),
    "max_file_store": ("jetstream_max_store", "max_file_store"),
    "max_file": ("jetstream_max_store", "max_file_store"),
    "max_outstanding_catchup": ("jetstream_max_catchup", "max_outstanding_catchup"),
    "max_buffered_size": ("stream_max_buffered_size", "max_buffered_size"),
    "meta_compact_size": ("jetstream_meta_compact_size", "meta_compact_size"),
}
_COUNTS = {
    "max_buffered_msgs": "stream_max_buffered_msgs",
    "request_queue_limit": "jetstream_request_queue_limit",
    "info_queue_limit": "jetstream_info_queue_limit",
}
_LIMITS = {
    "max_ack_pending": "max_ack_pending", "max_ha_assets": "max_ha_assets", "max_request_batch": "max_request_batch",
    "default_max_consumers": "default_max_consumers",
}  # fmt: skip
_BATCH_LIMITS = {
    "max_inflight_per_stream": "max_batch_inflight_per_stream", "max_inflight_total": "max_batch_inflight_total",
    "max_msgs": "max_batch_size",
}  # fmt: skip
_TPM = {"keys_file": "keys_file", "encryption_password": "key_password", "srk_password": "srk_password"}


def jetstream(last: Last, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
    at, value = Last().unwrap(token)
    if type(value) is bool:
        opts.jetstream = value
    elif type(value) is str:
        if value.lower() not in ("enabled", "enable", "disabled", "disable"):
            raise Finding(at, f"Expected 'enabled' or 'disabled' for string value, got '{value}'")
        opts.jetstream = value.lower().startswith("enable")
    elif type(value) is dict:
        enable = True
        for name, field, at, bare in Last().items(value):
            if name in ("enable", "enabled"):
                enable = as_bool(bare)
            else:
                _field(name, field, at, bare, opts, report)
        opts.jetstream = enable
    else:
        raise Finding(at, f"Expected map, bool or string to define JetStream, got {type_name(value)}")
    if opts.jetstream_tpm.keys_file:
        report.refused.append("jetstream tpm")


def _field(name: str, key: str, token: Token | None, value: Any, opts: Options, report: Report) -> None:
    if name in _STRINGS:
        setattr(opts, _STRINGS[name], as_str(value))
    elif name in _SIZES:
        _size(name, key, token, value, opts)
    elif name in _COUNTS:
        if type(value) is not int:
            raise Finding(token, f"Expected a parseable size for {quote(key)}, got {format_value(value)}")
        setattr(opts, _COUNTS[name], value)
    elif name == "strict":
        if type(value) is not bool:
            got = _go_s(value) if type(value) in (int, float) else format_value(value)
            raise Finding(token, f"Expected 'true' or 'false' for bool value, got '{got}'")
        opts.no_jetstream_strict = not value
    elif name in ("store", "store_dir", "storedir"):
        if opts.store_dir:
            raise Finding(token, "Duplicate 'store_dir' configuration")
        opts.store_dir = as_str(value)
    elif name in ("sync", "sync_interval"):
        if type(value) is str and value.lower() == "always":
            opts.sync_interval, opts.sync_always = SYNC_INTERVAL, True
        else:
            opts.sync_interval = duration(key, token, value, report)
        opts.sync_set = True
    elif name == "cipher":
        _cipher(token, value, opts)
    elif name == "limits":
        _limits(token, opts, report)
    elif name == "tpm":
        _tpm(token, opts, report)
    elif name == "unique_tag":
        opts.jetstream_unique_tag = as_str(value).strip().lower()
    elif name == "meta_compact":
        if type(value) is not int or value < 0:
            raise Finding(token, f"Expected an absolute size for {quote(key)}, got {format_value(value)}")
        opts.jetstream_meta_compact = value
    elif name == "meta_compact_sync":
        opts.jetstream_meta_compact_sync = as_bool(value)
    elif name == "max_concurrent_io":
        if type(value) is not int or not 4 <= value <= 8192:
            wanted = f"Expected an absolute size for {quote(key)} between 4 and 8192"
            raise Finding(token, f"{wanted}, got {format_value(value)}")
        opts.jetstream_concurrent_ios = value
    else:
        report.unknown(token, key)


def _go_s(value: Any) -> str:
    """%s of a number."""
    return f"%!s({type_name(value)}={format_value(value)})"


def _size(name: str, key: str, token: Token | None, value: Any, opts: Options) -> None:
    field, shown = _SIZES[name]
    try:
        size = storage_size(value)
    except GoError as error:
        raise Finding(token, f"{shown} {error}") from None
    if name == "meta_compact_size" and size < 0:
        raise Finding(token, f"Expected an absolute size for {quote(key)}, got {format_value(value)}")
    setattr(opts, field, size)
    if field == "jetstream_max_memory":
        opts.max_mem_set = True
    elif field == "jetstream_max_store":
        opts.max_store_set = True


def storage_size(value: Any) -> int:
    """Bytes of a number, or of a string such as "10G". GoError otherwise."""
    if type(value) is int:
        return value
    if type(value) is not str:
        raise GoError("must be int64 or string")
    if not value:
        return 0
    number = parse_int(value[:-1])
    if value[-1] not in _SHIFTS:
        raise GoError("sizes defined as strings must end in K, M, G, T")
    return wrap_int64(number << _SHIFTS[value[-1]])


def _cipher(token: Token | None, value: Any, opts: Options) -> None:
    word = as_str(value).lower()
    if word not in ("chacha", "chachapoly", "aes"):
        raise Finding(token, f"Unknown cipher type: {quote(value)}")
    opts.jetstream_cipher = "aes" if word == "aes" else "chacha"


def _limits(block: Token | None, opts: Options, report: Report) -> None:
    token, fields = Last().unwrap(block)
    opts.jetstream_limits = JSLimitOpts()
    if type(fields) is not dict:
        raise Finding(token, f"Expected a map to define JetStreamLimits, got {type_name(fields)}")
    for name, key, at, value in Last().items(fields):
        if name in _LIMITS:
            setattr(opts.jetstream_limits, _LIMITS[name], as_int(value))
        elif name == "duplicate_window":
            opts.jetstream_limits.duplicates = _bare_duration(value, report)
        elif name == "batch":
            _batch_limits(at, opts, report)
        else:
            report.unknown(at, key)


def _batch_limits(block: Token | None, opts: Options, report: Report) -> None:
    token, fields = Last().unwrap(block)
    if type(fields) is not dict:
        raise Finding(token, f"Expected a map to define batch limits, got {type_name(fields)}")
    for name, key, at, value in Last().items(fields):
        if name in _BATCH_LIMITS:
            setattr(opts.jetstream_limits, _BATCH_LIMITS[name], as_int(value))
        elif name == "timeout":
            opts.jetstream_limits.max_batch_timeout = _bare_duration(value, report)
        else:
            report.unknown(at, key)


def _bare_duration(value: Any, report: Report) -> int:
    """The error has no position (as in nats-server)."""
    try:
        return parse_duration(as_str(value))
    except GoError as error:
        report.error(None, str(error))
        return 0


def _tpm(block: Token | None, opts: Options, report: Report) -> None:
    token, fields = Last().unwrap(block)
    opts.jetstream_tpm = JSTpmOpts()
    if type(fields) is not dict:
        raise Finding(token, f"Expected a map to define JetStreamLimits, got {type_name(fields)}")
    for name, key, at, value in Last().items(fields):
        if name in _TPM:
            setattr(opts.jetstream_tpm, _TPM[name], as_str(value))
        elif name == "pcr":
            opts.jetstream_tpm.pcr = as_int(value)
        elif name == "cipher":
            _cipher(at, value, opts)
        else:
            report.unknown(at, key)
