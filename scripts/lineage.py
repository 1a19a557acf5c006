"""Print the lineage of a network: checkpoints, data, scores and commands from the first training.

python scripts/lineage.py runs/prune
python scripts/lineage.py runs/grown/best.ckpt --json
python scripts/lineage.py runs/grown --folders /data/old_runs

The first word is the folder of a run, or a checkpoint. Options:
  --json                        print everything as JSON
  --folders FOLDER              where else the files of parents may lie, such as [/data/runs]

--help TOPIC explains every option of one topic:
  all
"""

from regrow.guard import entry

main = entry("regrow.pipelines.lineage_table", "lineage", __doc__, is_output=True)

if __name__ == "__main__":
    raise SystemExit(main())
