"""JSON and YAML of strangers: parsed within limits of depth and items, or refused in one line."""

import json
from typing import Any

import numpy as np
import yaml
from yaml.events import CollectionEndEvent, CollectionStartEvent
from yaml.nodes import MappingNode, Node, SequenceNode

from regrow.errors import BadInput
from regrow.text import printable

DEPTH = 100  # lists and mappings in each other
TOO_DEEP = f"nested more than {DEPTH} deep; nothing that regrow reads is"
NUM_NODES = 200_000  # of YAML, those that aliases repeat counted each time
CHUNK = 2**20  # bytes that are looked at at once
# What reading a value raises that has another shape than the one that is read.
MISSHAPEN = (LookupError, TypeError, ValueError, AttributeError, OverflowError)
STEPS = np.zeros(256, dtype=np.int32)
STEPS[[ord("["), ord("{")]], STEPS[[ord("]"), ord("}")]] = 1, -1


def parse_json(text: str, name: str) -> Any:
    """Return what a JSON text holds.

    Args:
        text: The text.
        name: What errors call it, such as its file.

    Raises:
        BadInput: If it is no JSON, or nested too deeply.
    """
    try:
        value = json.loads(text)
        # Brackets within texts count there too, so only what may be too deep is looked at closely.
        if _may_be_deep(text) and _is_deep(value):
            raise RecursionError
        return value
    except RecursionError as error:
        raise BadInput(f"{name}: {TOO_DEEP}") from error
    except ValueError as error:
        raise BadInput(f"{name}: not JSON ({printable(str(error))})") from error


def parse_yaml(text: str, name: str) -> Any:
    """Return what a YAML text holds; aliases may repeat parts, but not beyond a limit.

    Args:
        text: The text.
        name: What errors call it, such as its file.

    Raises:
        BadInput: If it is no YAML, nested too deeply, repeats too much, or has tags of Python's.
    """
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = _checked_node(text, loader, name)
            return None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise BadInput(f"{name}: not YAML ({printable(str(error))})") from error
    except MISSHAPEN as error:
        # Of PyYAML itself, at odd values with tags such as !!int and !!timestamp.
        raise BadInput(f"{name}: not YAML (a value is not what its tag says)") from error


def refuse_unbounded(text: str, name: str) -> None:
    """Refuse a text which a reader of YAML without limits would fail at.

    Args:
        text: The text; one that is no YAML is left to that reader.
        name: What errors call it, such as its option.

    Raises:
        BadInput: If it is nested too deeply or repeats too much.
    """
    if len(text) <= 2 * DEPTH:  # a bracket or dash and its end for each list
        return
    try:
        loader = yaml.SafeLoader(text)
        try:
            _checked_node(text, loader, name)
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError):
        return


def _checked_node(text: str, loader: yaml.SafeLoader, name: str) -> Node | None:
    """Compose a text, of whose depth and repeats there is a limit."""
    _refuse_deep(text, name)
    node = loader.get_single_node()
    if node is not None and _num_nodes(node, {}) > NUM_NODES:
        raise BadInput(f"{name}: more than {NUM_NODES:,} values; no config has so many")
    return node


def _may_be_deep(text: str) -> bool:
    """Whether more brackets are open at once than the limit; most texts have too few at all."""
    return text.count("[") + text.count("{") > DEPTH and _num_open(text) > DEPTH


def _num_open(text: str) -> int:
    """Count the brackets that are open at once, those within texts included."""
    depth = deepest = 0
    content = np.frombuffer(text.encode("utf-8", "replace"), dtype=np.uint8)
    for start in range(0, len(content), CHUNK):
        depths = depth + np.cumsum(STEPS[content[start : start + CHUNK]])
        depth, deepest = int(depths[-1]), max(deepest, int(depths.max()))
    return deepest


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEPTH):
        nested = (outer for outer in level if isinstance(outer, dict | list))
        lists = (list(n.values()) if isinstance(n, dict) else n for n in nested)
        level = [inner for values in lists for inner in values]
    return any(isinstance(inner, dict | list) for inner in level)


def _refuse_deep(text: str, name: str) -> None:
    """Go through the events, which needs no recursion."""
    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > DEPTH:
            raise BadInput(f"{name}: {TOO_DEEP}")


def _num_nodes(node: Node, counts: dict[int, int]) -> int:
    """Count the values below a node as if aliases were written out."""
    key = id(node)
    if key in counts:
        if not counts[key]:
            raise ValueError("a part of it contains itself")
        return counts[key]
    counts[key] = 0
    total = 1
    if isinstance(node, MappingNode):
        total += sum(_num_nodes(one, counts) for pair in node.value for one in pair)
    elif isinstance(node, SequenceNode):
        total += sum(_num_nodes(one, counts) for one in node.value)
    counts[key] = total
    return total
