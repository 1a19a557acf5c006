"""Matching of old and new classes: by name, never by position."""

from collections.abc import Mapping, Sequence

from regrow.errors import BadInput


class LabelMap:
    """The correspondence of a checkpoint's classes to the classes of grown data.

    Args:
        old: Class names of the checkpoint, in row order.
        new: Class names that the rows shall stand for, in their new order.
        renamed: Names that changed, old name to new name.
        removed: Old classes that are given up on purpose.

    Attributes:
        kept: Pairs (old index, new index) of the classes that both sides know, by old index.
        added: New names that the checkpoint does not know, in their new order.

    Raises:
        BadInput: If a name stands twice on one side, an old class is neither new, renamed nor
            removed, or `renamed` and `removed` name classes that are not there.
    """

    def __init__(
        self,
        old: Sequence[str],
        new: Sequence[str],
        renamed: Mapping[str, str] | None = None,
        removed: Sequence[str] = (),
    ) -> None:
        self.old, self.new = list(old), list(new)
        self.renamed, self.removed = dict(renamed or {}), list(removed)
        names = _names_now(self.old, self.renamed, self.removed)
        _refuse_duplicates(self.new, "the data")
        _refuse_missing(names, self.old, self.new)
        places = {name: index for index, name in enumerate(self.new)}
        self.kept = [(index, places[name]) for index, name in names.items()]
        known = set(names.values())
        self.added = [name for name in self.new if name not in known]

    @classmethod
    def merged(
        cls,
        old: Sequence[str],
        data: Sequence[str],
        renamed: Mapping[str, str] | None = None,
        removed: Sequence[str] = (),
    ) -> "LabelMap":
        """Choose the new row order: old classes keep theirs, classes new in the data follow.

        Args:
            old: Class names of the checkpoint, in row order.
            data: Class names of the data, in any order.
            renamed: Names that changed, old name to new name.
            removed: Old classes that are given up on purpose.

        Raises:
            BadInput: As the class itself.
        """
        _refuse_duplicates(data, "the data")
        names = _names_now(old, renamed or {}, removed)
        _refuse_missing(names, old, data)
        known = set(names.values())
        new = [*names.values(), *(name for name in data if name not in known)]
        return cls(old, new, renamed, removed)

    @property
    def is_identity(self) -> bool:
        """Whether all rows stay where they are, and none is added."""
        stay = [(index, index) for index in range(len(self.new))]
        return len(self.old) == len(self.new) and self.kept == stay

    @property
    def old_names(self) -> dict[str, str]:
        """Return for each kept class its new name and the old one, in the old order."""
        return {self.new[new]: self.old[old] for old, new in self.kept}


def _names_now(
    old: Sequence[str], renamed: Mapping[str, str], removed: Sequence[str]
) -> dict[int, str]:
    """Return the new name of each old class that is not removed, by old index."""
    _refuse_duplicates(old, "the checkpoint")
    for option, given in (("renamed", list(renamed)), ("removed", list(removed))):
        strangers = [name for name in given if name not in old]
        if strangers:
            raise BadInput(
                f"{option} names {_listed(strangers)}, but the checkpoint has the classes "
                f"{_listed(old)}; correct {option}"
            )
    both = [name for name in renamed if name in removed]
    if both:
        raise BadInput(f"{_listed(both)} cannot be both renamed and removed; choose one")
    names = {i: renamed.get(name, name) for i, name in enumerate(old) if name not in removed}
    _refuse_duplicates(list(names.values()), "the checkpoint after renaming")
    return names


def _refuse_missing(names: Mapping[int, str], old: Sequence[str], new: Sequence[str]) -> None:
    missing = [
        repr(old[index]) if name == old[index] else f"{old[index]!r} (renamed {name!r})"
        for index, name in names.items()
        if name not in new
    ]
    if not missing:
        return
    known = set(names.values())
    unknown = [name for name in new if name not in known]
    raise BadInput(
        f"the data has no class {', '.join(missing)} of the checkpoint; "
        f"checkpoint: {_listed(old)}; data: {_listed(new)} (new: {_listed(unknown) or 'none'}); "
        "give `renamed` (old name: new name), or list it in `removed` to give it up"
    )


def _refuse_duplicates(names: Sequence[str], side: str) -> None:
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise BadInput(
            f"class names of {side} must differ, but {_listed(twice)} stands there twice"
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)
