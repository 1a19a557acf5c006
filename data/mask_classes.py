"""The file that says which number in masks is which class."""

from collections import Counter
from pathlib import Path
from typing import Any

from regrow.data.tidy import MAX_NUMBER, class_name, clean_name, mask_number
from regrow.errors import BadInput
from regrow.files import read_json

FORMS = 'a list of class names, as ["sky", "road"], or names with numbers, as {"sky": 0, "road": 1}'


def read_mask_classes(path: Path) -> tuple[dict[int, str], frozenset[int]]:
    """Give the class of each number, and the numbers of void."""
    if not path.is_file():
        raise BadInput(f"{path}: no such list of classes; set data.source.classes_file")
    content, void = read_json(path), None
    if isinstance(content, dict):
        void = content.get("void", content.get("ignore_index"))
        content = content.get("classes", {k: v for k, v in content.items() if _is_number(v)})
        content = content or None  # names of numbers, the other way round, are not read
    if isinstance(content, list):
        pairs = list(enumerate(content))
    elif isinstance(content, dict) and all(isinstance(v, int) for v in content.values()):
        pairs = [(number, name) for name, number in content.items()]
    else:
        raise BadInput(f"{path}: expected {FORMS}")
    try:
        pairs = [(number, class_name(name)) for number, name in pairs]
    except ValueError as error:
        raise BadInput(f"{path}: {error}; write its name") from error
    if void is not None and (not isinstance(void, int) or void > MAX_NUMBER):
        raise BadInput(f"{path}: void is {void!r:.99}; give its number, at most {MAX_NUMBER}")
    numbers = {mask_number(number, str(path)): name for number, name in pairs}
    if len(numbers) < len(pairs):
        raise BadInput(f"{path}: two classes have the same number; number each")
    counts = Counter(clean_name(name) for _, name in pairs)
    twice = sorted(name for name, count in counts.items() if count > 1)
    if twice:
        raise BadInput(f"{path}: {', '.join(twice)} is named twice; name each class once")
    voids = {k for k, name in pairs if k == void or clean_name(name).lower() in ("void", "ignore")}
    names = {number: name for number, name in pairs if number not in voids}
    return names, frozenset(voids if void is None else voids | {void})


def _is_number(value: Any) -> bool:
    """Whether a value beside class names was meant to be a number, and is no other fact."""
    return isinstance(value, int | float) or (isinstance(value, str) and value.strip().isdecimal())
