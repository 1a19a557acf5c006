"""Run the whole loop on the built-in sample: train, grow, prune, export, serve, watch.

python scripts/demo.py
python scripts/demo.py --task detection
python scripts/demo.py --task segmentation --runs demos

Options:
  --task TASK                   classification, detection or segmentation
  --runs FOLDER                 the folder in which the folder of the demo is made

--help TOPIC explains every option of one topic:
  all
"""

from regrow.guard import entry

main = entry("regrow.pipelines.demo", "demo", __doc__)

if __name__ == "__main__":
    raise SystemExit(main())
