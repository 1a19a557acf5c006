"""Text of strangers, such as names of files and classes, made safe to print."""

LONGEST = 2000  # characters of a line that is printed
# Joiners, which some scripts spell with and which move nothing.
HARMLESS = "\u200c\u200d"


def printable(text: str, longest: int = LONGEST) -> str:
    """Return a text on one line that does nothing to a terminal, whoever wrote it.

    Control characters, marks that turn the direction of writing, and bytes that are no UTF-8 are
    shown as escapes, as in the source of a program.

    Args:
        text: The text, perhaps with names in it.
        longest: How many characters are shown at most; of a longer text the middle is left out.
    """
    if len(text) > longest:
        head, tail = longest * 2 // 3, longest // 3
        left_out = f" ... ({len(text) - head - tail:,} characters left out) ... "
        text = text[:head] + left_out + text[len(text) - tail :]
    text = " ".join(text.split())
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in HARMLESS else escaped(c) for c in text)


def escaped(letter: str) -> str:
    """Return the escape that stands for a letter, or for a byte of a name that is no UTF-8."""
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # how Python holds a byte of a name that is no UTF-8
        code -= 0xDC00
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def plural(count: int, noun: str, ending: str = "s") -> str:
    """Return a count and its noun, such as `1 epoch` and `2,000 epochs`.

    Args:
        count: How many there are.
        noun: The noun for one.
        ending: What makes it the noun for several, such as `es` for a class.
    """
    return f"{count:,} {noun if count == 1 else noun + ending}"
