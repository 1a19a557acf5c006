"""Serve a model over HTTP: pictures in, labels, boxes or masks out.

python scripts/serve.py runs/train
python scripts/serve.py runs/export/model.onnx --port 0 --max_batch 8
python scripts/serve.py runs/train/promoted.json --host 0.0.0.0

The first word is a run folder, a checkpoint, model.onnx, model.tar.gz, or a promoted.json, which is
watched: the model that it newly names takes over without a gap. Options that are used most:
  --host ADDRESS                where to listen; 0.0.0.0 lets other machines in
  --port PORT                   the port; 0 takes a free one
  --name NAME                   what the model is called in the paths of the V2 protocol
  --max_batch NUMBER            how many images the network gets at once at most
  --max_delay SECONDS           how long a request waits for others
  --queue NUMBER                how many requests may be under way; more are answered with 503
  --timeout SECONDS             how long a request may take
  --capture FOLDER              write answered requests there, as SageMaker's data capture does
  --sample SHARE                how many of them
  --disk.max_share SHARE        capture stops while more of the disk is used
  --models FOLDER               let /models load and unload further models below a folder

--help TOPIC explains every option of one topic:
  all, general, capturing, disk
"""

from regrow.guard import entry

main = entry("regrow.pipelines.serve", "serve", __doc__)

if __name__ == "__main__":
    raise SystemExit(main())
