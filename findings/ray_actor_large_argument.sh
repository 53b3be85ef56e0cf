#!/usr/bin/env bash
# Ray: an actor whose constructor took more than 100 KiB is not restarted, although max_restarts says so.
#
# Guess:     max_restarts=-1 starts the process of a dead actor again, with the arguments it was made with, however large
#            these are: the driver that made the actor is alive, and asked for restarts.
# Behaviour: an argument above 100 KiB goes into the object store, and is let go a second or so after the actor stands.
#            When the actor's process dies, the actor is dead for good: the next call raises ActorDiedError, "The object
#            has already been deleted by the reference counting protocol. This should not happen." 90 KiB come back.
#            With a reference that the driver keeps (ray.put), 200 KiB come back, too. So: keep arguments of
#            constructors small, or hold a reference.
# Version:   ray 2.60.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check ray==2.60.0
timeout 300 "$folder/venv/bin/python" - "$folder/seen" >/dev/null 2>&1 <<'PYTHON' # Ray itself writes to both
import os
import signal
import sys
import time

import ray

ray.init(num_cpus=1, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False)


@ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=0)
class Actor:
    def __init__(self, data):
        self.size = len(data)

    def process(self):
        return os.getpid()


def after_a_death(data):
    actor = Actor.remote(data)
    process = ray.get(actor.process.remote())
    time.sleep(5)  # nodes free what was let go once a second
    os.kill(process, signal.SIGKILL)
    for _ in range(60):
        try:
            ray.get(actor.process.remote(), timeout=60)
            return "comes back"
        except ray.exceptions.ActorUnavailableError:  # Ray has not noticed the death, or the next process is starting
            continue
        except ray.exceptions.RayError as error:
            return f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}"
    return "does not answer"


held = ray.put(bytes(200 * 1024))
with open(sys.argv[1], "w") as seen:
    print(f"90 KiB: {after_a_death(bytes(90 * 1024))}", file=seen)
    print(f"200 KiB: {after_a_death(bytes(200 * 1024))}", file=seen)
    print(f"200 KiB, by a reference that is kept: {after_a_death(held)}", file=seen)
PYTHON
seen=$(cat "$folder/seen")
echo "$seen"
expected="90 KiB: comes back
200 KiB: ActorDiedError: The object has already been deleted by the reference counting protocol. This should not happen.
200 KiB, by a reference that is kept: comes back"
[ "$seen" = "$expected" ] || { echo "this has changed"; exit 1; }
