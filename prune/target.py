"""The cost target of a pruned network."""

from dataclasses import asdict, dataclass

from regrow.errors import BadInput

DEFAULT_MACS = 0.5


@dataclass(frozen=True)  # slots would hide its defaults from the command line
class Target:
    """The cost target: shares of the unpruned network's costs that the pruned one may keep.

    Several targets are all met. A share of the MACs or parameters is met to the channel; latency is
    measured, and met to about a tenth.

    Args:
        macs: The share of the multiply-accumulates of one image that is kept, in (0, 1]; null is
            no target, unless nothing else is: then half of them.
        params: The share of the parameters that is kept, in (0, 1]; null is no target.
        latency: The share of the measured time that is kept, in (0, 1]; null is no target.
    """

    macs: float | None = None
    params: float | None = None
    latency: float | None = None

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name, share in self.shares().items():
            if not 0 < share <= 1:
                raise BadInput(f"target.{name} is {share}, a share to keep must lie in (0, 1]")

    def shares(self) -> dict[str, float]:
        """Return the shares that are kept, by the name of the cost."""
        given = {name: share for name, share in asdict(self).items() if share is not None}
        return given or {"macs": DEFAULT_MACS}
