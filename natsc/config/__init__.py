"""Configuration: the language, the directives, the options.

    lexer -> parser -> process (the table of directives) -> directives_* -> Options

`values` holds what directives share, `gotext` what must read as Go prints it, `errors` what can go wrong,
`validate` the rules between options, checked when a server starts.
"""

from natsc.config.errors import ConfigError
from natsc.config.options import Options, set_baseline_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from natsc.config.process import check_config_file, process_config_file, process_config_string

__all__ = [
    "ConfigError",
    "Options",
    "check_config_file",
    "process_config_file",
    "process_config_string",
    "set_baseline_options",
    "validate_options",
]

_OF_PROCESS = ("check_config_file", "process_config_file", "process_config_string")


def __getattr__(name: str) -> object:
    """A server without a configuration file starts without what reads one."""
    if name not in _OF_PROCESS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from natsc.config import process

    return getattr(process, name)


def validate_options(opts: Options) -> None:
    """Checks the rules between options; ConfigError with nats-server's text. Call it after set_baseline_options."""
    from natsc.config.validate import validate_options as validate

    validate(opts)
