"""Real scheduler and worker processes on loopback, and a program that kills who called it."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

GENEROUS_S = 60

# Numbers its calls of `sim run --json`, from 1. A file `kill-N` in its folder holds a signal and the
# process that call N sends it to first: `parent`, or a file with an id. `kill-any` is for all calls.
KILLER = """\
#!/bin/sh
here={folder}
case " $* " in *" --json "*)
  n=1
  until mkdir "$here/call-$n" 2>/dev/null; do n=$((n + 1)); done
  for order in "$here/kill-$n" "$here/kill-any"; do
    [ -f "$order" ] || continue
    read -r signal target <"$order"
    if [ "$target" = parent ]; then target=$PPID; else target=$(cat "$target"); fi
    kill -s "$signal" "$target"
    exit 1
  done ;;
esac
exec {sim} "$@"
"""


class KillingSim:
    def __init__(self, folder, sim):
        folder.mkdir()
        self.folder, self.path = folder, folder / "sim"
        self.path.write_text(KILLER.format(folder=folder, sim=sim))
        self.path.chmod(0o755)

    def kill_at(self, call, target="parent", sent="KILL"):
        (self.folder / f"kill-{call}").write_text(f"{sent} {target}\n")

    def calls(self):
        return len(list(self.folder.glob("call-*")))


def wait_for(condition, what):
    end = time.monotonic() + GENEROUS_S
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


class Cluster:
    """One scheduler; workers as they are asked for. Everything runs in `folder` and ends with it."""

    def __init__(self, folder, stack, **settings):
        self.folder, self.stack = folder, stack
        self.environment = {
            **os.environ,
            **{f"DASK_DISTRIBUTED__{name}": value for name, value in settings.items()},
        }
        where = folder / "scheduler.json"
        self.scheduler = self._start("scheduler", "--port", "0", "--no-dashboard",
                                     "--scheduler-file", where)  # fmt: skip
        wait_for(lambda: where.exists() and where.read_text().endswith("}"), "no scheduler")
        self.address = json.loads(where.read_text())["address"]

    def _start(self, kind, *arguments):
        log = self.stack.enter_context(open(self.folder / f"{kind}.log", "ab"))
        process = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{kind}", *map(str, arguments), "--host", "127.0.0.1"],
            cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
        self.stack.callback(self._end, process)
        return process

    @staticmethod
    def _end(process):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def add_worker(self, nanny=False):
        return self._start("worker", self.address, "--nthreads", "1", "--no-dashboard",
                           "--nanny" if nanny else "--no-nanny",
                           "--local-directory", self.folder)  # fmt: skip


def missing_tools():
    """Why there is no cluster to test with, or None."""
    try:
        import distributed  # noqa: F401
    except ImportError:
        return "needs Debian's python3-distributed"
    return None


def has_slurm():
    return shutil.which("sbatch") is not None
