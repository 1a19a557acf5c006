"""How systemd and cron read the commands in their files, after their manual pages."""

import re

ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'"}


def systemd_words(unit: str, environment: dict[str, str]) -> list[str]:
    """Return the words of `ExecStart` as systemd.service(5) and systemd.syntax(7) have them."""
    (line,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    words = []
    for quoted, plain in re.findall(r'"((?:[^"\\]|\\.)*)"|([^\s"]+)', line):
        text = plain if plain else re.sub(r"\\(.)", lambda found: ESCAPES[found[1]], quoted)
        assert not re.search("%(?!%)", text.replace("%%", ""))
        words.append(text.replace("%%", "%"))
    return [words[0], *(_expanded(word, environment) for word in words[1:])]


def _expanded(word: str, environment: dict[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else environment.get(found[1] or found[2], "")

    return re.sub(r"\$\$|\$\{(\w+)\}|\$(\w+)", value, word)


def cron_command(line: str) -> str:
    """Return what cron hands to the shell, as crontab(5) has it."""
    fields = line.rstrip("\n").split(" ", 5)
    command, found = fields[5], re.search(r"(?<!\\)%", fields[5])
    return (command[: found.start()] if found else command).replace("\\%", "%")
