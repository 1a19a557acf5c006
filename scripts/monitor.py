"""Monitor a served model: what it sees and answers, against pictures that it was not fitted to.

python scripts/monitor.py baseline runs/train --out runs/monitor
python scripts/monitor.py run runs/monitor --captures captures
python scripts/monitor.py report runs/monitor
python scripts/monitor.py schedule runs/monitor --captures captures --for systemd

`baseline` freezes the reference of a model. `run` judges every closed hour of captures that is new,
and leaves reports; it may run as often as you like. `extract`, with --out FOLDER, does the part of
it that costs most for a share of the captures: it writes captures without their pictures, which
`run` judges as it would the pictures. `schedule` writes the files by which systemd, cron or
SageMaker runs it again and again. Options of `run` that are used most:
  --captures FOLDER             where the server captures into
  --ground_truth FOLDER         labels that came later, by event or inference id
  --false_alarms RATE           the accepted rate of false alarms, such as "1 in 26 weeks"
  --blocks NAME                 a custom attribute whose pictures depend on each other: camera
  --now TIME                    judge the hours that have ended by then

It ends with 0; with 3 where data is broken or the loss is above its promise; with 2 at bad input.

run --help TOPIC, and that of the other words, explains every option of one topic:
  all
"""

from regrow.guard import entry

main = entry("regrow.pipelines.monitor", "monitor", __doc__)

if __name__ == "__main__":
    raise SystemExit(main())
