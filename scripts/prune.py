"""Prune a network: remove channels or weights under an accuracy budget.

python scripts/prune.py --config configs/classification_prune.yaml --checkpoint runs/train/best.ckpt
python scripts/prune.py --checkpoint runs/train/best.ckpt --target.macs 0.5 --budget.max_drop 0.01
python scripts/prune.py --config configs/classification_prune.yaml --checkpoint runs/train/best.ckpt --resume true

Options that are used most; each is also a key of a YAML file, and the last one given counts:
  --checkpoint FILE             the network to prune
  --config FILE                 read options from a YAML file; may be repeated
  --target.macs SHARE           the share of the multiply-accumulates to keep
  --target.params SHARE         the share of the parameters to keep
  --target.latency SHARE        the share of the measured time to keep
  --targets SHARE SHARE ...     several shares of the multiply-accumulates to keep, in one run
  --budget.max_drop DROP        the largest loss of score that is accepted, such as 0.01
  --criterion CLASS             how channels are ranked, such as Taylor or Magnitude
  --num_steps NUMBER            steps from the whole network to the target
  --recovery.epochs NUMBER      epochs of training after each step
  --clock.command COMMAND       measure time by a program of your own, run on {onnx}
  --resume true                 continue this run where it was stopped
  --run FOLDER                  the folder of the results; an earlier run there is moved aside
  --print_config                print all settings as YAML, and stop

--help TOPIC explains every option of one topic:
  general, criterion, data, target, budget, selection, recovery, optimization, clock, all
"""  # noqa: E501

from regrow.guard import entry

main = entry("regrow.pipelines.commands", "prune", __doc__)

if __name__ == "__main__":
    raise SystemExit(main())
