"""One point of a sweep. Runs on any machine that has the program and the files; needs nothing but the
standard library, because a cluster's workers get this module from the client."""

import signal
import subprocess

DONE, REFUSED, DEFECT, LOST = "done", "refused", "defect", "lost"
STATUS_OF_USER_ERRORS = 2


def ended_by(number):
    try:
        name = signal.Signals(number).name
    except ValueError:  # real-time signals have no names
        name = f"signal {number}"
    return f"the program was ended by {name}"


INTERRUPTED = ended_by(signal.SIGINT)


def one_line(text):
    return " ".join(text.split())


def error_of(stderr):
    """The last line of stderr, which says what is wrong, without the program's name."""
    lines = stderr.strip().splitlines() or ["no message"]
    return one_line(lines[-1]).removeprefix("sim: error: ")


def call(sim, arguments, folder):
    return subprocess.run(
        [sim, *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )


def run_point(sim, config, overrides, folder):
    """(outcome, text): the result document, or a line that says why there is none.

    `lost` is what another machine, or the same one later, may do better: no program there, or it
    was killed."""
    settings = [part for override in overrides for part in ("--set", override)]
    try:
        ran = call(sim, ["run", "--config", config, "--json", "-", *settings], folder)
    except OSError as error:
        return LOST, f"{error.filename}: cannot be run: {error.strerror.lower()}"
    if ran.returncode == 0:
        return DONE, ran.stdout
    if ran.returncode == STATUS_OF_USER_ERRORS:
        return REFUSED, error_of(ran.stderr)
    if ran.returncode < 0:
        return LOST, ended_by(-ran.returncode)
    return DEFECT, f"exit status {ran.returncode}: {error_of(ran.stderr)}"
