"""Train, grow, prune and export a digit classifier on the built-in sample, in under a minute."""

from pathlib import Path

from regrow.data import Digits, GrowingData
from regrow.metrics import Budget
from regrow.models import Classification
from regrow.pipelines import run_export, run_pruning, run_training
from regrow.prune import Target
from regrow.training import Fit

runs, fit = Path("runs/quickstart"), Fit(epochs=4)
young, grown = GrowingData(Digits("young")), GrowingData(Digits())  # 8 classes, then 10

run_training(Classification, young, fit, runs / "train")
run_training(Classification, grown, fit, runs / "grow", warm_start=runs / "train" / "best.ckpt")
dense, half = runs / "grow" / "best.ckpt", Target(macs=0.5)
accepted = Budget(max_drop=0.03)
run_pruning(dense, grown, target=half, budget=accepted, num_steps=2, run=runs / "prune")
report = run_export(runs / "prune" / "pruned.ckpt", grown, runs / "export")
print(f"model.onnx scores {report.figures['score']['value']:.3f} on test images")
