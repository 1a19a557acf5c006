"""Export a checkpoint as ONNX, and verify it in ONNX Runtime on held-out images.

python scripts/export.py runs/prune/pruned.ckpt
python scripts/export.py runs/prune/pruned.ckpt --input_type float32 --opset 17
python scripts/export.py runs/prune/pruned.ckpt --int8 --reference runs/train/best.ckpt
python scripts/export.py runs/prune/pruned.ckpt --for sagemaker

The first word is the checkpoint, dense or pruned. Options that are used most:
  --config FILE                 read options from a YAML file, such as those of the data
  --run FOLDER                  the folder of the results; an earlier run there is moved aside
  --tolerance SHARE             the largest difference of an output that is accepted
  --max_score_change CHANGE     the largest difference of the score that is accepted
  --max_images NUMBER           how many test images are compared at most
  --opset VERSION               the version of ONNX's operators
  --input_type TYPE             the type of the images: uint8, or float32 from 0 to 1
  --int8                        quantise the model to 8 bits, and decide the budget on it
  --budget.max_drop SHARE       how much of the score INT8 may lose
  --reference CHECKPOINT        the unpruned network, against which the budget is decided
  --for PLATFORM                pack the model too: for sagemaker, triton or kserve

--help TOPIC explains every option of one topic:
  general, data, budget, all
"""

from regrow.guard import entry

main = entry("regrow.pipelines.commands", "export", __doc__)

if __name__ == "__main__":
    raise SystemExit(main())
