"""Train a network, or warm-start it from a checkpoint on data that has grown.

python scripts/train.py --task detection --data.root FOLDER
python scripts/train.py --config configs/classification.yaml
python scripts/train.py --config configs/classification.yaml --warm-start runs/train/best.ckpt --run runs/grown
python scripts/train.py --config configs/classification.yaml --resume auto

Options that are used most; each is also a key of a YAML file, and the last one given counts:
  --config FILE                 read options from a YAML file; may be repeated
  --task NAME                   classification, detection or segmentation: with --data.root alone, all
                                else is chosen by the images and the machine, and printed
  --data.root FOLDER            the folder of the images
  --data.source CLASS           the format of the data, such as regrow.data.formats.Coco
  --data.batch_size NUMBER      images in a batch
  --task.net NAME               the network, such as small or timm/efficientnet_lite0
  --task.optimization.lr RATE   the peak learning rate
  --fit.epochs NUMBER           passes over the training images
  --fit.devices NUMBER          GPUs, or processes on the CPU
  --warm_start CHECKPOINT       start from an earlier network; classes are matched by name
  --replay SHARE                keep a memory of the images for later warm starts
  --resume auto                 continue this run where it was stopped
  --run FOLDER                  the folder of the results; an earlier run there is moved aside
  --print_config                print all settings as YAML, and stop

--help TOPIC explains every option of one topic:
  general, task, data, fit, growth, gate, all
"""  # noqa: E501

from regrow.guard import entry

main = entry("regrow.pipelines.commands", "train", __doc__)

if __name__ == "__main__":
    raise SystemExit(main())
