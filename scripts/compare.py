"""Compare dropout with pruning on equal compute, or ways to retrain when the data has grown.

python scripts/compare.py --config configs/compare.yaml
python scripts/compare.py --config configs/compare_retraining.yaml
python scripts/compare.py --config configs/compare.yaml --resume true

A config or option with `before`, the data of the past, asks for the second.
"""

from regrow.guard import entry

main = entry("regrow.pipelines.experiments.commands", "compare")

if __name__ == "__main__":
    raise SystemExit(main())
