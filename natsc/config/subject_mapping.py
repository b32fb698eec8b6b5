"""Are these mappings of subjects possible? Used for `mappings` and for imports that rename.

Destinations may use `$1`, `{{wildcard(1)}}` and the other functions in `_FUNCTIONS`. Only checked here, not applied.
"""

from __future__ import annotations

from natsc.config.gotext import GoError, atoi, quote
from natsc.config.subjects import is_valid_subject

TYPE_CHECKING = False
if TYPE_CHECKING:
    from natsc.config.options import MapDest

BAD_SUBJECT = "invalid subject"
_BAD_DESTINATION = "invalid mapping destination"
_BAD_TRANSFORM = f"{_BAD_DESTINATION}: invalid transform"
_UNKNOWN_FUNCTION = f"{_BAD_DESTINATION}: unknown function"
_INDEX_OUT_OF_RANGE = f"{_BAD_DESTINATION}: wildcard index out of range"
_TOO_FEW = f"{_BAD_DESTINATION}: not enough arguments passed to the function"
_TOO_MANY = f"{_BAD_DESTINATION}: too many arguments passed to the function"
_BAD_ARGUMENT = f"{_BAD_DESTINATION}: function argument is invalid or in the wrong format"
_NOT_FOR_IMPORT = f"{_BAD_DESTINATION}: the only mapping function allowed for import transforms is {{{{Wildcard()}}}}"
_NOT_ALL_WILDCARDS = f"{_BAD_DESTINATION}: not using all of the token wildcard(s)"

_FUNCTIONS = (
    "wildcard", "partition", "splitfromleft", "splitfromright", "slicefromleft", "slicefromright", "right", "left",
    "split", "random",
)  # fmt: skip
_CAPITALS = {"splitfromleft": (5, 9), "splitfromright": (5, 9), "slicefromleft": (5, 9), "slicefromright": (5, 9)}
_INT32_MAX = (1 << 31) - 1


def check_mapping(source: str, dests: list[MapDest]) -> str | None:
    """What is wrong with mapping `source` to these weighted destinations; None if nothing."""
    if not is_valid_subject(source):
        return BAD_SUBJECT
    seen: set[str] = set()
    totals: dict[str, int] = {}
    for dest in dests:
        if dest.subject in seen:
            return f"duplicate entry for {quote(dest.subject)}"
        seen.add(dest.subject)
        if dest.weight > 100:
            return "individual weights need to be <= 100"
        totals[dest.cluster] = totals.get(dest.cluster, 0) + dest.weight
        if totals[dest.cluster] > 100:
            return "total weight needs to be <= 100"
        wrong = _check_destination(dest.subject) or transform_error(source, dest.subject)
        if wrong is not None:
            return wrong
    return None


def _check_destination(dest: str) -> str | None:
    if not dest:
        return None
    full = False
    for part in dest.split("."):
        if not part or full:
            return f"{_BAD_TRANSFORM} in {part}" if part else _BAD_TRANSFORM
        if _is_mustache(part):
            if not _function(part)[0]:
                return f"{_UNKNOWN_FUNCTION} in {part}"
        elif part == ">":
            full = True
        elif any(char in "\t\n\f\r " for char in part):
            return _BAD_TRANSFORM
    return None


def _is_mustache(part: str) -> bool:
    return len(part.encode("utf-8", "surrogateescape")) > 4 and part.startswith("{{") and part.endswith("}}")


def _function(part: str) -> tuple[str, list[str]]:
    """(name in lower case, arguments) of a function somewhere in `part`; ("", []) when there is none."""
    for name in _FUNCTIONS:
        at = -1
        while True:
            at = part.find("{{", at + 1)
            if at < 0:
                break
            rest = part[at + 2 :].lstrip(" \t\n\f\r")
            if not _named(rest, name):
                continue
            rest = rest[len(name) :].lstrip(" \t\n\f\r")
            end = rest.rfind(")")
            while end > 0 and not rest[end + 1 :].lstrip(" \t\n\f\r").startswith("}}"):
                end = rest.rfind(")", 0, end)
            if rest[:1] == "(" and end > 0 and "\n" not in rest[1:end]:
                return name, _arguments(rest[1:end])
    return "", []


def _named(text: str, name: str) -> bool:
    """Only the first letter of each word of a name may be written in either case."""
    word = text[: len(name)]
    capitals = (0, *_CAPITALS.get(name, ()))
    return word.lower() == name and all(char.islower() or index in capitals for index, char in enumerate(word))


def _arguments(text: str) -> list[str]:
    parts = text.split(",")
    return [parts[0], *(part.lstrip(" \t\n\f\r") for part in parts[1:])]


def mapping_error(source: str, dest: str) -> str | None:
    """What is wrong with a destination's words, or else with turning subjects matching `source` into it."""
    return _check_destination(dest) or transform_error(source, dest)


def transform_error(source: str, dest: str, strict: bool = False) -> str | None:
    """What is wrong with turning subjects matching `source` into `dest`. `strict`: it must be reversible."""
    if not dest:
        return None
    source_tokens = _tokens(source or ">")
    dest_tokens = _tokens(dest)
    if source_tokens is None or dest_tokens is None or "*" in dest_tokens:
        return BAD_SUBJECT
    full = source_tokens[-1] == ">"
    if full != (dest_tokens[-1] == ">"):
        return BAD_SUBJECT
    wildcards = source_tokens.count("*")
    used = 0
    for part in dest_tokens:
        try:
            name, indexes = _placeholder(part)
        except GoError as error:
            return f"{error} in {part}"
        if not name:
            continue
        if not wildcards and not full:
            if name not in ("random", "partition"):
                return f"{_INDEX_OUT_OF_RANGE} in {part}"
            continue
        if strict and name != "wildcard":
            return f"{_NOT_FOR_IMPORT} in {part}"
        used += len(indexes)
        for index in indexes:
            if index > wildcards:
                return f"{_INDEX_OUT_OF_RANGE} in {part}: [{index}]"
    if strict and used < wildcards:
        return f"{_NOT_ALL_WILDCARDS} in {dest}"
    return None


def _tokens(subject: str) -> list[str] | None:
    tokens = subject.split(".")
    return None if not all(tokens) or ">" in tokens[:-1] else tokens


def _placeholder(part: str) -> tuple[str, list[int]]:
    """(function, wildcard indexes) of a destination part; ("", []) of a plain one. GoError when it is wrong."""
    if len(part) > 1 and part[0] == "$":
        try:
            return "wildcard", [atoi(part[1:])]
        except GoError:
            return "", []
    if not _is_mustache(part):
        return "", []
    name, arguments = _function(part)
    if not name:
        raise GoError(_UNKNOWN_FUNCTION)
    if name == "wildcard":
        if arguments == [""]:
            raise GoError(_TOO_FEW)
        if len(arguments) > 1:
            raise GoError(_TOO_MANY)
        return name, [_number(arguments[0])]
    if name == "partition":
        _number(arguments[0], _INT32_MAX)
        return name, [_number(argument) for argument in arguments[1:]]
    if name == "random":
        if len(arguments) != 1:
            raise GoError(_TOO_FEW)
        _number(arguments[0], _INT32_MAX)
        return name, []
    if len(arguments) != 2:
        raise GoError(_TOO_FEW if len(arguments) < 2 else _TOO_MANY)
    index = _number(arguments[0])
    if name != "split":
        _number(arguments[1], _INT32_MAX, -_INT32_MAX - 1)
    elif " " in arguments[1] or "." in arguments[1]:
        raise GoError(_BAD_ARGUMENT)
    return name, [index]


def mapping_function(part: str) -> tuple[str, list[str]]:
    """(function, arguments) of a checked destination part, the first argument as a plain number; ("", []) of a word."""
    name, _ = _placeholder(part)
    if not name:
        return "", []
    if part[0] == "$":
        return name, [part[1:]]
    _, arguments = _function(part)
    return name, [arguments[0].strip(" "), *arguments[1:]]


def _number(text: str, high: int | None = None, low: int | None = None) -> int:
    try:
        value = atoi(text.strip(" "))
    except GoError:
        raise GoError(_BAD_ARGUMENT) from None
    if (high is not None and value > high) or (low is not None and value < low):
        raise GoError(_BAD_ARGUMENT)
    return value


def tokenize(subject: str) -> str:
    """`foo.*.*` as a destination: `foo.$1.$2`."""
    out = []
    count = 0
    for part in subject.split("."):
        if part == "*":
            count += 1
            part = f"${count}"
        out.append(part)
    return ".".join(out)


def untokenize(subject: str) -> str:
    """`foo.$2.{{wildcard(1)}}` as a source: `foo.*.*`."""
    out = []
    for part in subject.split("."):
        placeholder = len(part) > 1 and part[0] == "$" and "1" <= part[1] <= "9"
        name, arguments = _function(part) if "{{" in part else ("", [])
        if placeholder or (name == "wildcard" and len(arguments) == 1 and arguments[0]):
            part = "*"
        out.append(part)
    return ".".join(out)


def has_wildcard(subject: str) -> bool:
    return any(part in ("*", ">") for part in subject.split("."))


def is_subset(subject: str, of: str) -> bool:
    """Everything that matches `subject` matches `of`, part by part."""
    tokens = subject.split(".")
    tests = of.split(".")
    for index, test in enumerate(tests):
        if index >= len(tokens) or not test:
            return False
        if test == ">":
            return True
        part = tokens[index]
        if not part or part == ">":
            return False
        if part == "*":
            if test != "*":
                return False
        elif not test.startswith("*") and part != test:
            return False
    return len(tokens) == len(tests)


def collide(one: str, other: str) -> bool:
    """Some literal subject could match both."""
    if one == other:
        return True
    left, right = one.split("."), other.split(".")
    left_wild, right_wild = has_wildcard(one), has_wildcard(other)
    if not left_wild and not right_wild:
        return False
    if not left_wild:
        return is_subset(one, other)
    if not right_wild:
        return is_subset(other, one)
    if len(left) != len(right):
        shorter = left if len(left) < len(right) else right
        if ">" not in shorter:
            return False
    return all(_can_match(a, b) for a, b in zip(left, right, strict=False))


def _can_match(one: str, other: str) -> bool:
    if not one or not other:
        return False
    return one[0] in "*>" or other[0] in "*>" or one == other
