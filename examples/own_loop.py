"""Prune a plain torchvision network in the middle of your own Lightning training loop.

regrow trains nothing here. It finds the channels that must go together, proves that they can be
removed, and cuts them out of the network and of the optimizer that is at work.
"""

import pytorch_lightning as lightning
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from regrow.data import Digits
from regrow.models import count_macs
from regrow.prune import Magnitude, as_task, cut_, find_groups, lowest, score_groups

SIZE = (32, 32)


class MyTraining(lightning.LightningModule):
    """An ordinary classifier: nothing in it knows of regrow."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the cross-entropy of a batch."""
        images, labels = batch
        return functional.cross_entropy(self.net(images), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return SGD with momentum, which a cut must slice along with the weights."""
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


class PruneOnce(lightning.Callback):
    """Remove the weakest quarter of each group's units when an epoch has ended.

    Args:
        after_epoch: The epoch, counted from 0.
        share: The share of each group that is removed, in (0, 1).
    """

    def __init__(self, after_epoch: int = 0, share: float = 0.25) -> None:
        self.after_epoch, self.share = after_epoch, share
        self.macs: tuple[int, int] | None = None

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: MyTraining) -> None:
        """Find the groups, score their units, and cut the weakest ones out."""
        if trainer.current_epoch != self.after_epoch:
            return
        task = as_task(module.net, SIZE)  # around the very network that is trained
        before = count_macs(task)
        groups = find_groups(task).groups
        plan = lowest(groups, score_groups(task, groups, Magnitude()), self.share)
        cut_(task, plan, trainer.optimizers[0])  # training goes on with the smaller network
        self.macs = (before, count_macs(task))


def load_digits() -> TensorDataset:
    """Return the training images of the built-in sample with their labels."""
    content = Digits().read(None)
    items = [item for item in content.items if item.split == "train"]
    images = torch.stack([torch.from_numpy(item.image).permute(2, 0, 1) / 255 for item in items])
    labels = torch.tensor([content.classes.index(item.target) for item in items])
    return TensorDataset(images, labels)


def main() -> None:
    """Train for three epochs, with a cut after the first."""
    lightning.seed_everything(0, verbose=False)
    digits = load_digits()
    module = MyTraining(torchvision.models.resnet18(num_classes=10))
    prune = PruneOnce()
    trainer = lightning.Trainer(
        max_epochs=3, callbacks=[prune], accelerator="cpu", logger=False, enable_checkpointing=False
    )
    trainer.fit(module, DataLoader(digits, batch_size=64, shuffle=True))
    before, after = prune.macs
    images, labels = digits.tensors
    module.eval()
    with torch.no_grad():
        right = (module.net(images).argmax(1) == labels).float().mean()
    print(f"{before:,} -> {after:,} MACs; {right:.1%} of the training images right after the cut")


if __name__ == "__main__":
    main()
