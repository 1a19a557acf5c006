"""Print what a network comes from: checkpoints, data, scores and commands from the first training.

python scripts/lineage.py runs/prune
python scripts/lineage.py runs/grown/best.ckpt --json
"""

from regrow.guard import entry

main = entry("regrow.pipelines.lineage_table", "lineage", is_output=True)

if __name__ == "__main__":
    raise SystemExit(main())
