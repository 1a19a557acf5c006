"""Class rows: the places of each class's rows among the output rows of a layer.

The layout is anchor-major, as in torchvision's SSD and RetinaNet heads: for every anchor first the
background entries (if any), then the classes; each entry has the same number of consecutive rows.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClassRows:
    """The layout of one layer whose output rows belong to classes.

    Args:
        layer: The layer's name inside `task.net`.
        num_anchors: Number of anchors: repetitions of the block of background and classes.
        background: Number of background entries before the classes in each block; each has as many
            rows as a class.
        rows_per_class: Number of consecutive rows of one class (4 where a class has its own box).
    """

    layer: str
    num_anchors: int = 1
    background: int = 0
    rows_per_class: int = 1

    def num_rows(self, num_classes: int) -> int:
        """Count the output rows of the layer for `num_classes` classes."""
        return self.num_anchors * (self.background + num_classes) * self.rows_per_class

    def indices(self, class_index: int, num_classes: int) -> list[int]:
        """Return all rows of one class, in ascending order.

        Raises:
            IndexError: If there is no such class.
        """
        if not 0 <= class_index < num_classes:
            raise IndexError(f"{self.layer} has {num_classes} classes, and no class {class_index}")
        return self._entry_rows(range(class_index, class_index + 1), self.background, num_classes)

    def background_indices(self, num_classes: int) -> list[int]:
        """Return all rows of the background, in ascending order."""
        return self._entry_rows(range(self.background), 0, num_classes)

    def _entry_rows(self, entries: range, offset: int, num_classes: int) -> list[int]:
        return [
            (anchor * (self.background + num_classes) + offset + entry) * self.rows_per_class + row
            for anchor in range(self.num_anchors)
            for entry in entries
            for row in range(self.rows_per_class)
        ]
