"""The lexer of nats-server's configuration language.

The language is defined by its lexer: what ends a word, which characters are tolerated and which column an
error carries all follow from the order in which states read characters. So this is the same state machine,
a state being a method that returns the next one; runs of plain characters are skipped in one step.

Facts that look like mistakes and are the language: a NUL character is the end of the input; `[12]` is an
unclosed array holding the string `12]`; `//` needs a value before it to be anything but a key.

Invariants
1. `_next` and `_peek` move `_line_start` to a newline as soon as it is seen, and `_backup` leaves it there:
   columns depend on it.
2. Columns count bytes, `_pos` counts characters (they differ only when the text isn't ASCII).
3. Every state consumes input, pops the stack or ends the stream, so lexing is linear in the input.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    State = Callable[[], "State | None"]
    Item = tuple[int, str, int, int]

ERROR, EOF, KEY, TEXT, STRING, BOOL, INTEGER, FLOAT, DATETIME = range(9)
ARRAY_START, ARRAY_END, MAP_START, MAP_END, VARIABLE, INCLUDE = range(9, 15)

_NUL = "\0"  # what _next returns at the end of the input, and a NUL in it
_SPACE = frozenset(
    "\t\n\v\f\r \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
_KEY_END = _SPACE | {"=", ":", _NUL}
_STRING_END = frozenset("\\\n\r\0;,]}\t '")
_INCLUDE_END = frozenset("\n\r\0;}\t '")
_NUMBER_END = frozenset("\n\r\0};,\t ")
_SUFFIX_START = frozenset("kKmMgGtTpPeE")
_BOOLS = frozenset(("true", "false", "on", "off", "yes", "no"))
_ESCAPED = {"t": "\t", "n": "\n", "r": "\r", '"': '"', "\\": "\\"}
_DATE_REST = "00-00T00:00:00Z"


class Lexer:
    """Turns `text` (decoded with surrogateescape) into items (type, text, line, column), one `next_item` at a time.

    After an ERROR (its text is the message) or EOF item there are no more.
    """

    __slots__ = (
        "_ascii", "_item_line_start", "_items", "_line", "_line_start", "_parts", "_pos", "_stack", "_start",
        "_state", "_string_state", "_taken", "_text", "_width",
    )  # fmt: skip

    def __init__(self, text: str) -> None:
        self._text = text
        self._ascii = text.isascii()
        self._start = self._pos = self._width = self._line_start = self._item_line_start = self._taken = 0
        self._line = 1
        self._items: list[Item] = []
        self._stack: list[State] = []
        self._parts: list[str] = []
        self._state: State | None = self._top
        self._string_state: State = self._bare_string

    def next_item(self) -> Item:
        while self._taken == len(self._items):
            if self._state is None:
                return (EOF, "", self._line, 0)
            self._items.clear()
            self._taken = 0
            self._state = self._state()
        self._taken += 1
        return self._items[self._taken - 1]

    # -- moving over the input ------------------------------------------------------------------------

    def _next(self) -> str:
        pos = self._pos
        if pos >= len(self._text):
            self._width = 0
            return _NUL
        char = self._text[pos]
        if char == "\n":
            self._line += 1
            self._line_start = pos
        self._width = 1
        self._pos = pos + 1
        return char

    def _backup(self) -> None:
        self._pos -= self._width
        if self._text[self._pos : self._pos + 1] == "\n":
            self._line -= 1

    def _peek(self) -> str:
        char = self._next()
        self._backup()
        return char

    def _ignore(self) -> None:
        self._start = self._pos
        self._item_line_start = self._line_start

    def _next_after_space(self) -> str:
        """The next character that is no space; the start of the item moves to it. Newlines count as space."""
        char = self._next()
        while char in _SPACE:
            char = self._next()
        self._start = self._pos - self._width
        self._item_line_start = self._line_start
        return char

    def _stop_at(self, stops: frozenset[str]) -> str:
        """Moves to the first character in `stops` (which holds newline and NUL) and peeks at it."""
        text, pos, end = self._text, self._pos, len(self._text)
        while pos < end and text[pos] not in stops:
            pos += 1
        self._pos = pos
        return self._peek()

    def _find(self, *wanted: str) -> str:
        """Moves to the nearest of `wanted` or NUL, counting the lines passed, and returns it unconsumed."""
        text, pos = self._text, self._pos
        nearest = len(text)
        for char in (*wanted, _NUL):
            at = text.find(char, pos, nearest)
            if at >= 0:
                nearest = at
        newlines = text.count("\n", pos, nearest)
        if newlines:
            self._line += newlines
            self._line_start = text.rindex("\n", pos, nearest)
        self._pos = nearest
        self._width = 1 if nearest < len(text) else 0
        return text[nearest] if self._width else _NUL

    # -- producing items ------------------------------------------------------------------------------

    def _emit(self, kind: int) -> None:
        value = self._text[self._start : self._pos]
        if self._parts:
            value = _rejoin("".join(self._parts) + value)
            if kind == STRING:
                self._parts = []
        self._items.append((kind, value, self._line, self._column() - self._byte_length(value)))
        self._start = self._pos
        self._item_line_start = self._line_start

    def _column(self) -> int:
        start, pos = self._item_line_start, self._pos
        if self._ascii or pos < start:
            return pos - start
        return len(self._text[start:pos].encode("utf-8", "surrogateescape"))

    def _byte_length(self, value: str) -> int:
        return len(value) if value.isascii() else len(value.encode("utf-8", "surrogateescape"))

    def _error(self, message: str) -> State | None:
        """Ends the stream; returns the state that there isn't."""
        self._items.append((ERROR, message, self._line, self._pos - self._line_start))
        return None

    def _end_of_input(self) -> State | None:
        """Ends the stream: quietly when nothing of an item was read, with an error otherwise."""
        if self._pos > self._start:
            return self._error("Unexpected EOF.")
        self._emit(EOF)
        return None

    def _pop(self) -> State | None:
        return self._stack.pop() if self._stack else self._error("BUG in lexer: no states to pop.")

    # -- the top level, bare or wrapped in braces -------------------------------------------------------

    def _top(self) -> State | None:
        char = self._next_after_space()
        if char == "{":
            self._stack.append(self._top)
            self._ignore()
            return self._block_start
        if char == "#":
            return self._comment_then(self._top)
        if char == "/":
            if self._next() == "/":
                return self._comment_then(self._top)
            self._backup()
            return self._end_of_input()
        if char == _NUL:
            return self._end_of_input()
        self._backup()
        self._stack.append(self._top_value_end)
        return self._key_start

    def _top_value_end(self) -> State | None:
        char = self._next()
        if char == "#":
            return self._comment_then(self._top)
        if char == "/":
            if self._next() == "/":
                return self._comment_then(self._top)
            self._backup()
            return self._top_value_end
        if char in "\t ":
            return self._top_value_end
        if char in "\n\r\0;,}":
            self._ignore()
            return self._top
        return self._error(
            f"Expected a top-level value to end with a new line, comment or EOF, but got '{_shown(char)}' instead."
        )

    def _block_start(self) -> State | None:
        char = self._next_after_space()
        if char == "{":
            self._stack.append(self._block_end)
            self._ignore()
            return self._block_start
        if char == "}":
            self._ignore()
            return self._pop()
        if char == "#":
            return self._comment_then(self._block_start)
        if char == "/":
            if self._next() == "/":
                return self._comment_then(self._block_start)
            self._backup()
            return self._end_of_input()
        if char == _NUL:
            return self._end_of_input()
        self._backup()
        self._stack.append(self._block_value_end)
        return self._key_start

    def _block_value_end(self) -> State | None:
        char = self._next()
        if char == "#":
            return self._comment_then(self._block_value_end)
        if char == "/":
            if self._next() == "/":
                return self._comment_then(self._block_value_end)
            self._backup()
            return self._block_value_end
        if char in "\t ":
            return self._block_value_end
        if char in "\n\r;,":
            self._ignore()
            return self._block_start
        if char == "}":
            self._backup()
            return self._block_end
        return self._error(
            f"Expected a block-level value to end with a new line, comment or EOF, but got '{_shown(char)}' instead."
        )

    def _block_end(self) -> State | None:
        char = self._next()
        if char == "#":
            return self._comment_then(self._block_start)
        if char == "/":
            if self._next() == "/":
                return self._comment_then(self._block_start)
            self._backup()
            return self._block_end
        if char in "\n\r\t ":
            return self._block_end
        if char in ";,":
            self._ignore()
            return self._block_start
        if char == "}":
            self._ignore()
            return self._pop()
        return self._error(f"Expected a block-level to end with a '}}', but got '{_shown(char)}' instead.")

    # -- keys ---------------------------------------------------------------------------------------------

    def _key_start(self) -> State | None:
        char = self._peek()
        if char == "=" or char == ":":
            return self._error(f"Unexpected key separator '{char}'")
        if char in _SPACE:
            self._next()
            self._ignore()
            return self._key_start
        if char == '"' or char == "'":
            self._next()
            self._ignore()
            return self._double_quoted_key if char == '"' else self._single_quoted_key
        self._ignore()
        self._next()
        return self._key

    def _double_quoted_key(self) -> State | None:
        return self._quoted_key('"')

    def _single_quoted_key(self) -> State | None:
        return self._quoted_key("'")

    def _quoted_key(self, mark: str) -> State | None:
        if self._find(mark) == _NUL:
            return self._end_of_input()
        self._emit(KEY)
        self._next()
        self._ignore()
        return self._key_end

    def _key(self) -> State | None:
        char = self._stop_at(_KEY_END)
        if char in _SPACE:
            return self._key_or_include(self._key_end, None)
        self._emit(KEY)
        return self._key_end

    def _key_or_include(self, otherwise: State, push: State | None) -> State | None:
        """A word before a space is a key, unless it is the keyword."""
        if self._text[self._start : self._pos].lower() == "include":
            self._ignore()
            if push is not None:
                self._stack.append(push)
            return self._include_start
        self._emit(KEY)
        return otherwise

    def _key_end(self) -> State | None:
        char = self._next_after_space()
        if char == "=" or char == ":":
            self._ignore()
            return self._value
        if char == _NUL:
            self._emit(EOF)
            return None
        self._backup()
        return self._value

    # -- include --------------------------------------------------------------------------------------------

    def _include_start(self) -> State | None:
        char = self._next()
        while char in "\t ":
            self._ignore()
            char = self._next()
        if char == "'" or char == '"':
            self._ignore()
            return self._include_single_quoted if char == "'" else self._include_double_quoted
        what = {"[": "start of an array", "{": "start of a map", "(": "start of a block", "-": "start of a number"}
        what |= {"\\": "escape sequence", "\n": "new line", "\r": "new line"}
        if char in what or char.isdecimal():
            return self._error(f"Expected include value but found {what.get(char, 'start of a number')}")
        self._backup()
        return self._include_bare

    def _include_single_quoted(self) -> State | None:
        return self._include_quoted("'", "Unexpected EOF in quoted include")

    def _include_double_quoted(self) -> State | None:
        return self._include_quoted('"', "Unexpected EOF in double quoted include")

    def _include_quoted(self, mark: str, unclosed: str) -> State | None:
        if self._find(mark) == _NUL:
            return self._error(unclosed)
        self._emit(INCLUDE)
        self._next()
        self._ignore()
        return self._pop()

    def _include_bare(self) -> State | None:
        char = self._stop_at(_INCLUDE_END)
        self._emit(INCLUDE)
        if char == "'":
            self._next()
            self._ignore()
        return self._pop()

    # -- values -----------------------------------------------------------------------------------------------

    def _value(self) -> State | None:
        char = self._next()
        while char in "\t ":
            self._ignore()
            char = self._next()
        if char == "[":
            self._ignore()
            self._emit(ARRAY_START)
            return self._array_value
        if char == "{":
            self._ignore()
            self._emit(MAP_START)
            return self._map_key_start
        if char == "'":
            self._ignore()
            return self._single_quoted_string
        if char == '"':
            self._ignore()
            self._string_state = self._double_quoted_string
            return self._double_quoted_string
        if char == "-":
            return self._negative_start
        if char == "(":
            self._ignore()
            return self._block
        if char.isdecimal():
            return self._number
        if char == ".":
            return self._error("Floats must start with a digit")
        if char in "\n\r":
            return self._error("Expected value but found new line")
        self._backup()
        self._string_state = self._bare_string
        return self._bare_string

    def _array_value(self) -> State | None:
        char = self._next_after_space()
        if char == "#":
            return self._comment_then(self._array_value)
        if char == "/":
            if self._next() == "/":
                return self._comment_then(self._array_value)
            self._backup()
            char = ","
        if char == ",":
            return self._error("Unexpected array value terminator ','.")
        if char == "]":
            return self._array_end
        self._backup()
        self._stack.append(self._array_value_end)
        return self._value

    def _array_value_end(self) -> State | None:
        char = self._next()
        while char in "\t ":
            self._ignore()
            char = self._next()
        if char == "#":
            return self._comment_then(self._array_value_end)
        if char == "/":
            if self._next() == "/":
                return self._comment_then(self._array_value_end)
            self._backup()
            char = ","
        if char in ",\n\r":
            self._ignore()
            return self._array_value
        if char == "]":
            return self._array_end
        return self._error(
            f'Expected an array value terminator "," or an array terminator "]", but got \'{_shown(char)}\' instead.'
        )

    def _array_end(self) -> State | None:
        self._ignore()
        self._emit(ARRAY_END)
        return self._pop()

    # -- maps -------------------------------------------------------------------------------------------------

    def _map_key_start(self) -> State | None:
        char = self._peek()
        while char in _SPACE:
            self._next()
            self._ignore()
            char = self._peek()
        if char == "=" or char == ":":
            return self._error(f"Unexpected key separator '{char}'.")
        if char == "]":
            return self._error("Unexpected array end ']' processing map.")
        if char == "}":
            self._next()
            return self._map_end
        if char == "#":
            self._next()
            return self._comment_then(self._map_key_start)
        if char == "/":
            self._next()
            if self._next() == "/":
                return self._comment_then(self._map_key_start)
            self._backup()
        elif char == "'" or char == '"':
            self._next()
            self._ignore()
            return self._map_double_quoted_key if char == '"' else self._map_single_quoted_key
        elif char == _NUL:
            return self._error("Unexpected EOF processing map.")
        self._ignore()
        self._next()
        return self._map_key

    def _map_single_quoted_key(self) -> State | None:
        return self._map_quoted_key("'", "Unexpected EOF processing quoted map key.")

    def _map_double_quoted_key(self) -> State | None:
        return self._map_quoted_key('"', "Unexpected EOF processing double quoted map key.")

    def _map_quoted_key(self, mark: str, unclosed: str) -> State | None:
        if self._find(mark) == _NUL:
            return self._error(unclosed)
        self._emit(KEY)
        self._next()
        self._ignore()
        return self._map_key_end

    def _map_key(self) -> State | None:
        char = self._stop_at(_KEY_END)
        if char == _NUL:
            return self._error("Unexpected EOF processing map key.")
        if char in _SPACE:
            return self._key_or_include(self._map_key_end, self._map_value_end)
        self._emit(KEY)
        return self._map_key_end

    def _map_key_end(self) -> State | None:
        char = self._next_after_space()
        if char == "=" or char == ":":
            self._ignore()
        else:
            self._backup()
        return self._map_value

    def _map_value(self) -> State | None:
        char = self._next_after_space()
        if char == ",":
            return self._error('Unexpected map value terminator ",".')
        if char == "}":
            return self._map_end
        self._backup()
        self._stack.append(self._map_value_end)
        return self._value

    def _map_value_end(self) -> State | None:
        char = self._next()
        while char in "\t ":
            self._ignore()
            char = self._next()
        if char == "#":
            return self._comment_then(self._map_value_end)
        if char == "/":
            if self._next() == "/":
                return self._comment_then(self._map_value_end)
            self._backup()
            char = ","
        if char in ";,\n\r":
            self._ignore()
            return self._map_key_start
        if char == "}":
            return self._map_end
        return self._error(
            f'Expected a map value terminator "," or a map terminator "}}", but got \'{_shown(char)}\' instead.'
        )

    def _map_end(self) -> State | None:
        self._ignore()
        self._emit(MAP_END)
        return self._pop()

    # -- strings ----------------------------------------------------------------------------------------------

    def _single_quoted_string(self) -> State | None:
        if self._find("'") == _NUL:
            self._next()
            return self._end_of_input()
        self._emit(STRING)
        self._next()
        self._ignore()
        return self._pop()

    def _double_quoted_string(self) -> State | None:
        char = self._find('"', "\\")
        if char == "\\":
            return self._escape_start()
        if char == _NUL:
            self._next()
            return self._end_of_input()
        self._emit(STRING)
        self._next()
        self._ignore()
        return self._pop()

    def _bare_string(self) -> State | None:
        char = self._stop_at(_STRING_END)
        if char == "\\":
            return self._escape_start()
        text = self._text
        if char == "'":
            self._emit(STRING)
            self._next()
            self._ignore()
        elif self._parts:
            self._emit(STRING)
        elif text[self._start : self._pos].lower() in _BOOLS:
            self._emit(BOOL)
        elif text[self._start : self._start + 1] == "$":
            self._start += 1
            self._emit(VARIABLE)
        else:
            self._emit(STRING)
        return self._pop()

    def _block(self) -> State | None:
        """`(` to a `)` alone on its line; the newline before the `)` belongs to the string."""
        while True:
            if self._find(")") == _NUL:
                self._next()
                return self._error("Unexpected EOF processing block.")
            before = self._text[self._pos - 1]
            self._next()
            if before != "\n":
                continue
            if self._next() in "\n\0":
                self._backup()
                self._backup()  # back to the ")", but at the very end of the input both stay where they are
                self._emit(STRING)
                self._next()
                self._ignore()
                return self._pop()
            self._backup()

    def _escape_start(self) -> State | None:
        """At a backslash: puts what was read so far aside and reads the escape."""
        self._parts.append(self._text[self._start : self._pos])
        self._next()
        self._start = self._pos
        return self._escape

    def _escape(self) -> State | None:
        char = self._next()
        if char == "x":
            return self._hex_escape()
        value = _ESCAPED.get(char)
        if value is None:
            return self._error(
                f"Invalid escape character '{_shown(char)}'. Only the following escape characters are allowed: "
                '\\xXX, \\t, \\n, \\r, \\", \\\\.'
            )
        self._parts.append(value)
        self._start = self._pos
        return self._string_state

    def _hex_escape(self) -> State | None:
        for _ in range(2):
            if self._next() in "\n\r":
                return self._error("Expected two hexadecimal digits after '\\x', but hit end of line")
        last = self._text[max(0, self._pos - 2) : self._pos].encode("utf-8", "surrogateescape")[-2:]
        digits = last.decode("utf-8", "surrogateescape")
        if len(last) != 2 or not all(byte in b"0123456789abcdefABCDEF" for byte in last):
            return self._error(f"Expected two hexadecimal digits after '\\x', but got '{digits}'")
        self._parts.append(bytes([int(digits, 16)]).decode("utf-8", "surrogateescape"))
        self._start = self._pos
        return self._string_state

    # -- numbers, dates, addresses ------------------------------------------------------------------------------

    def _number(self) -> State | None:
        """Digits; the first was read. They may turn out to start a date, a float, an address or a word."""
        char = self._next()
        while char.isdecimal():
            char = self._next()
        if char == "-":
            if self._byte_length(self._text[self._start : self._pos]) != 5:
                return self._error("All ISO8601 dates must be in full Zulu form.")
            return self._date_after_year
        if char == ".":
            return self._float_start
        if char in _SUFFIX_START:
            return self._suffix
        if char not in _NUMBER_END:
            self._string_state = self._bare_string
            return self._bare_string
        self._backup()
        self._emit(INTEGER)
        return self._pop()

    def _suffix(self) -> State | None:
        char = self._next()
        while char in "bBiI":
            char = self._next()
        self._backup()
        if char in _NUMBER_END:
            self._emit(INTEGER)
            return self._pop()
        self._string_state = self._bare_string
        return self._bare_string

    def _date_after_year(self) -> State | None:
        for wanted in _DATE_REST:
            char = self._next()
            if wanted == "0":
                if not char.isdecimal():
                    return self._error(f"Expected digit in ISO8601 datetime, but found '{_shown(char)}' instead.")
            elif char != wanted:
                return self._error(f"Expected '{wanted}' in ISO8601 datetime, but found '{_shown(char)}' instead.")
        self._emit(DATETIME)
        return self._pop()

    def _negative_start(self) -> State | None:
        char = self._next()
        if not char.isdecimal():
            if char == ".":
                return self._error("Floats must start with a digit, not '.'.")
            return self._error(f"Expected a digit but got '{_shown(char)}'.")
        while char.isdecimal():
            char = self._next()
        if char == ".":
            return self._float_start
        if char in _SUFFIX_START:
            return self._suffix
        self._backup()
        self._emit(INTEGER)
        return self._pop()

    def _float_start(self) -> State | None:
        char = self._next()
        if not char.isdecimal():
            return self._error(f"Floats must have a digit after the '.', but got '{_shown(char)}' instead.")
        while char.isdecimal():
            char = self._next()
        if char == ".":
            return self._address
        self._backup()
        self._emit(FLOAT)
        return self._pop()

    def _address(self) -> State | None:
        char = self._next()
        while char.isdecimal() or char in ".:-":
            char = self._next()
        self._backup()
        self._emit(STRING)
        return self._pop()

    # -- comments -----------------------------------------------------------------------------------------------

    def _comment_then(self, state: State) -> State | None:
        """`#` or `//` was read: skips to the end of the line. The TEXT item tells the parser that something came."""
        self._stack.append(state)
        self._ignore()
        text = self._text
        end = text.find("\n", self._pos)
        end = len(text) if end < 0 else end
        for char in "\r\0":
            at = text.find(char, self._pos, end)
            end = end if at < 0 else at
        self._pos = end
        self._peek()
        self._emit(TEXT)
        return self._pop()


def _shown(char: str) -> str:
    """A character as error messages show it."""
    if char == "\n":
        return "\\n"
    return "\ufffd" if "\ud800" <= char <= "\udfff" else char


def _rejoin(text: str) -> str:
    """Bytes given one by one as \\xHH may together be UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
