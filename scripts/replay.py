"""Send captured requests to a server again, and compare its answers with the captured ones.

python scripts/replay.py captures
python scripts/replay.py captures --to http://127.0.0.1:8080
python scripts/replay.py captures --to http://127.0.0.1:8080/models/road/invoke --out replay.json

The requests of all hours are sent in the order of their time, with the ids that they had. The exit
code is 3 if an answer is another one than was captured. Options:
  --to ADDRESS                  the server; without a path that of /invocations
  --out FILE                    write the counts as JSON

--help TOPIC explains every option of one topic:
  all
"""

from regrow.guard import entry

main = entry("regrow.pipelines.replay", "replay_captures", __doc__)

if __name__ == "__main__":
    raise SystemExit(main())
