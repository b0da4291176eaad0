"""Who runs the points of a sweep: this machine, or a cluster through Dask. Each engine is a generator of
(Point, outcome, text) in the order in which points end; what it yields is final."""

import asyncio
import concurrent.futures
import itertools
import logging
import re
import sys
import threading

import sweep_task
from sweep_spec import SweepError, wrong

CONNECT_S = 3
GONE = "the scheduler is gone; what has ended is kept, go on with --resume"
# What any call of Dask raises when it cannot reach the scheduler, at whatever moment.
LOST_CONNECTION = (OSError, TimeoutError, concurrent.futures.CancelledError, asyncio.CancelledError)
AHEAD = 2  # points handed out per thread of a cluster, so that none waits for the client
ADDRESS = re.compile(r"[a-z]+://([^\s/:]+|\[[0-9a-fA-F:.%]+\]):\d{1,5}")


def here(points, arguments, jobs, retries):
    """`arguments(point)` are those of run_point; threads suffice, since each runs a program.

    A thread's next point begins once the result of its last has been taken, and so is on disk: of a
    client that is killed at most `jobs` points are repeated, those that had no result on disk yet."""
    pool = concurrent.futures.ThreadPoolExecutor(jobs)
    left, under_way, stopping = iter(points), {}, threading.Event()

    def hand_out():
        for point in itertools.islice(left, jobs - len(under_way)):
            under_way[pool.submit(attempts, arguments(point), retries, stopping)] = point

    try:
        hand_out()
        while under_way:
            ended = concurrent.futures.wait(under_way, return_when=concurrent.futures.FIRST_COMPLETED).done
            for future in [f for f in under_way if f in ended]:
                yield under_way.pop(future), *future.result()
                hand_out()
    finally:
        stopping.set()  # a Ctrl-C has ended the programs too: nothing is tried again
        pool.shutdown(wait=True, cancel_futures=True)


def attempts(task, retries, stopping):
    outcome, text = sweep_task.LOST, sweep_task.INTERRUPTED
    for _ in range(retries + 1):
        if stopping.is_set():
            break
        outcome, text = sweep_task.run_point(*task)
        if outcome != sweep_task.LOST or text == sweep_task.INTERRUPTED:
            break
    return outcome, text


def dask_modules():
    try:
        import cloudpickle
        import distributed
    except ImportError as error:
        raise SweepError(
            f"--scheduler: expected Dask (Debian's python3-distributed), got: {error}"
        ) from None
    logging.disable()  # what Dask says of lost connections; errors are one line here
    # Workers lack this folder: the module goes along with the task.
    cloudpickle.register_pickle_by_value(sweep_task)
    return distributed


def connect(distributed, address):
    if not ADDRESS.fullmatch(address):
        raise wrong(f"--scheduler {address}", "SCHEME://HOST:PORT", "none")
    try:
        return distributed.Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TypeError, ImportError) as error:
        # What is left of a Client that could not be made complains at its end: it has been said.
        sys.unraisablehook = lambda _: None
        reason = sweep_task.one_line(str(error)) or type(error).__name__
        raise wrong(f"--scheduler {address}", "a running dask-scheduler", reason) from None


class Cluster:
    """Points on their way through a scheduler; each is submitted again a bounded number of times."""

    def __init__(self, client, completed, arguments, retries):
        self.client, self.completed, self.arguments = client, completed, arguments
        self.retries, self.under_way = retries, {}

    def submit(self, point, attempt=0):
        # One key for one attempt at one point: whoever submits it again gets the same task.
        key = f"moesim-{point.fingerprint}-{attempt}"
        future = self.client.submit(sweep_task.run_point, *self.arguments(point), key=key, retries=0)
        self.under_way[key] = (future, point, attempt)
        self.completed.add(future)

    def ended(self, future):
        """(point, outcome, text), or None where the point is tried again."""
        _, point, attempt = self.under_way.pop(future.key)
        if self.client.status != "running" or future.cancelled():
            raise SweepError(GONE)
        outcome, text = outcome_of(future)
        if outcome == sweep_task.LOST and attempt < self.retries:
            self.submit(point, attempt + 1)
            return None
        return point, outcome, text

    def room(self, jobs):
        threads = sum(self.client.nthreads().values())
        if threads == 0 and sys.stderr.isatty() and not self.under_way:
            print("sweep.py: the scheduler has no worker yet, waiting for one", file=sys.stderr)
        return (jobs or max(1, AHEAD * threads)) - len(self.under_way)


def outcome_of(future):
    error = future.exception()
    if error is None:
        return future.result()
    # KilledWorker: Dask itself gave the point to several workers, and all of them died.
    return sweep_task.LOST, f"{type(error).__name__}: {sweep_task.one_line(str(error))}"


def cluster(address):
    """An engine like `here`; without `jobs` it keeps every thread of the cluster busy."""
    distributed = dask_modules()
    client = connect(distributed, address)

    def engine(points, arguments, jobs, retries):
        try:
            with client:
                completed = distributed.as_completed(loop=client.loop)
                yield from results(Cluster(client, completed, arguments, retries), iter(points), jobs)
        except LOST_CONNECTION:
            raise SweepError(GONE) from None

    return engine


def results(run, left, jobs):
    fill(run, left, jobs)
    while run.under_way:
        result = run.ended(next(run.completed))
        fill(run, left, jobs)
        if result:
            yield result


def fill(run, left, jobs):
    for _ in range(run.room(jobs)):
        point = next(left, None)
        if point is None:
            return
        run.submit(point)
