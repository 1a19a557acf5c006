"""False alarms: how often they are accepted, said in weeks, and counted in pictures."""

import re
from dataclasses import dataclass
from datetime import timedelta

from regrow.errors import BadInput

DEFAULT = "1 in 26 weeks"
UNITS = {"hour": 1, "day": 24, "week": 168, "month": 730.5, "year": 8766}  # hours
PATTERN = re.compile(
    r"\s*(?:1|one)\s+in\s+(\d+(?:\.\d+)?|an?)?\s*(hour|day|week|month|year|image)s?\s*"
)
LONGEST = 1e6  # of a unit
FEWEST = 1000  # pictures in a run length: an endpoint that is hardly used alarms no sooner


@dataclass(frozen=True, slots=True)
class FalseAlarms:
    """The accepted rate of false alarms: one in so many hours, or in so many pictures.

    Args:
        hours: The mean time to one, if it is said as a time.
        images: The mean number of pictures, if it is said so.
    """

    hours: float | None = None
    images: float | None = None

    @classmethod
    def parse(cls, text: str) -> "FalseAlarms":
        """Return the rate that a text means, such as `1 in 26 weeks` or `1 in 1000000 images`.

        Raises:
            BadInput: If it is none.
        """
        found = PATTERN.fullmatch(text.lower().replace(",", "").replace("_", ""))
        if found is None:
            raise BadInput(f"--false-alarms is {text!r}; write it as {DEFAULT!r}, or in days")
        count = 1.0 if found[1] in (None, "a", "an") else float(found[1])
        unit = found[2]
        if not 0 < count <= (1e12 if unit == "image" else LONGEST):
            raise BadInput(f"--false-alarms is {text!r}; the time must be more than 0, and finite")
        return cls(images=count) if unit == "image" else cls(hours=count * UNITS[unit])

    def run_length(self, num_steps: int, time: timedelta) -> float:
        """Return the accepted rate as a mean number of steps, by their measured rate.

        Args:
            num_steps: The pictures, or blocks of them, that were seen so far.
            time: In how much time, empty hours included.
        """
        if self.images is not None:
            return max(self.images, 1.0)
        rate = num_steps / max(time.total_seconds() / 3600, 1.0)
        return max(rate * (self.hours or 0), FEWEST)
