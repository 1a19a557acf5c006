"""What a pruned network may cost."""

from dataclasses import asdict, dataclass

from regrow.data.errors import BadInput


@dataclass(frozen=True)  # slots would hide its defaults from the command line
class Target:
    """What the pruned network may cost, as shares of what the unpruned one costs.

    Several targets are all met. A share of the MACs or parameters is met to the channel; latency is
    measured, and met to about a tenth.

    Args:
        macs: The share of the multiply-accumulates of one image that is kept, in (0, 1]; null is
            no target.
        params: The share of the parameters that is kept, in (0, 1]; null is no target.
        latency: The share of the measured time that is kept, in (0, 1]; null is no target.
    """

    macs: float | None = 0.5
    params: float | None = None
    latency: float | None = None

    def __post_init__(self) -> None:
        """Refuse values out of range, and no target at all."""
        if not self.shares():
            raise BadInput("target names no cost; give target.macs, target.params or .latency")
        for name, share in self.shares().items():
            if not 0 < share <= 1:
                raise BadInput(f"target.{name} is {share}, a share to keep must lie in (0, 1]")

    def shares(self) -> dict[str, float]:
        """Give the shares that are kept, by the name of the cost."""
        return {name: share for name, share in asdict(self).items() if share is not None}
