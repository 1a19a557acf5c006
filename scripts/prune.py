"""Make a network smaller under an accuracy budget.

python scripts/prune.py --config configs/classification_prune.yaml --checkpoint runs/train/best.ckpt
"""

from regrow.guard import entry

main = entry("regrow.pipelines.commands", "prune")

if __name__ == "__main__":
    raise SystemExit(main())
