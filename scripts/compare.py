"""Compare dropout with pruning on equal compute, or ways to retrain when the data has grown.

python scripts/compare.py --config configs/compare.yaml
python scripts/compare.py --config configs/compare_retraining.yaml
python scripts/compare.py --config configs/compare.yaml --resume true

A config or an option with `before`, the data of the past, asks for the second comparison; after
such a --config, --help TOPIC explains the options of that one. Options that are used most:
  --config FILE                 read options from a YAML file; may be repeated
  --data.root FOLDER            the folder of the images
  --task.net NAME               the network
  --fit.epochs NUMBER           passes over the training images
  --target.macs SHARE           the share of the multiply-accumulates that pruning keeps
  --num_seeds NUMBER            how many times each network is trained
  --resume true                 continue this comparison where it was stopped
  --run FOLDER                  the folder of the results; an earlier run there is moved aside
  --print_config                print all settings as YAML, and stop

--help TOPIC explains every option of one topic:
  general, task, data, fit, target, selection, dropouts, all
"""

from regrow.guard import entry

main = entry("regrow.pipelines.experiments.commands", "compare", __doc__)

if __name__ == "__main__":
    raise SystemExit(main())
