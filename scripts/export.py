"""Write a checkpoint as ONNX, and verify it in ONNX Runtime on held-out images.

python scripts/export.py runs/prune/pruned.ckpt
"""

from regrow.guard import entry

main = entry("regrow.pipelines.commands", "export")

if __name__ == "__main__":
    raise SystemExit(main())
