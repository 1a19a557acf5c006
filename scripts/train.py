"""Train a network, or warm-start it from a checkpoint on data that grew.

python scripts/train.py --config configs/classification.yaml
python scripts/train.py --config configs/classification.yaml --warm-start runs/old/best.ckpt
python scripts/train.py --config configs/classification.yaml --resume auto
"""

from regrow.guard import entry

main = entry("regrow.pipelines.commands", "train")

if __name__ == "__main__":
    raise SystemExit(main())
