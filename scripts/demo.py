"""Run the whole loop on the built-in sample: train, grow, prune, export, verify.

python scripts/demo.py --task classification      # or detection, segmentation
"""

from regrow.guard import entry

main = entry("regrow.pipelines.demo", "demo")

if __name__ == "__main__":
    raise SystemExit(main())
