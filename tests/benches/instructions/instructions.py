"""How many instructions of the processor a message takes in each worker, counted by callgrind, on the local AWS.

Run it beside `sluice local up`, in a checkout, with boto3 (cli/local/requirements-test.txt) and valgrind:

    cargo run -- local up --release
    python3 tests/benches/instructions/instructions.py

It restarts the workers of the local system under callgrind, sends messages one at a time, and ends the workers, which then
write what they have counted. It does so once with few messages and once with more: the difference is the warm messages, the
rest is the start of the process with its first messages. In the end the workers run without callgrind again. Nothing
else may use the local system meanwhile. Instructions in the kernel are not counted.

`--baseline FILE` compares with numbers that `--json` has written before, and fails if a warm message takes a tenth more.
"""

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import sys
import tempfile
import uuid

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "find"))
from find import Deployment, wait  # noqa: E402

# The worker's part of a message's way, in their order.
WORKERS = ("submit", "dispatch", "deduplicate", "parse", "store", "publish")
# The messages that a process gets before those that count as warm: they bring credentials, keys and connections.
FIRST = 3


class Workers:
    """The processes of the workers, and the folders that they are started from."""

    def __init__(self, deployment, folder):
        port = deployment.outputs["endpointUrl"].rpartition(":")[2]
        self.code = folder.resolve() / f"tmp/ministack-provided-code-{port}"
        names = deployment.outputs["stackOutputs"]
        self.names = {names[f"{worker.capitalize()}FunctionName"]: worker for worker in WORKERS}

    def processes(self):
        found = []
        for process in pathlib.Path("/proc").iterdir():
            if not process.name.isdigit():
                continue
            with contextlib.suppress(OSError):  # It has ended meanwhile.
                environment = dict(it.partition("=")[::2] for it in (process / "environ").read_text().split("\0"))
                worker = self.names.get(environment.get("AWS_LAMBDA_FUNCTION_NAME"))
                if worker and str(self.code) in (process / "cmdline").read_text():
                    found.append((worker, int(process.name)))
        return found

    def end(self):
        """Ends all processes; the local AWS starts them again. Gives what they were."""
        ended = self.processes()
        for _, process in ended:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        wait("the workers to end", lambda: not {it for _, it in self.processes()} & {it for _, it in ended})
        return ended

    @contextlib.contextmanager
    def counted(self, counts):
        """Meanwhile the local AWS starts workers under callgrind, which writes to the folder `counts`."""
        valgrind = shutil.which("valgrind") or sys.exit("valgrind is not installed: Debian's package `valgrind` has it")
        programs = [it for it in self.code.glob("*/bootstrap") if self.serves(it)]
        for program in programs:
            real = program.with_name("bootstrap-itself")
            program.rename(real)
            program.write_text(f"#!/bin/sh\nexec {valgrind} --tool=callgrind --callgrind-out-file={counts}/%p {real}\n")
            program.chmod(0o755)
        try:
            yield
        finally:
            for program in programs:
                program.with_name("bootstrap-itself").replace(program)
            self.end()

    def serves(self, program):
        """Whether one of the workers runs this program."""
        return any(str(program) in pathlib.Path(f"/proc/{process}/cmdline").read_text() for _, process in self.processes())


class Sender:
    """Sends messages, as a new user of a new institute, one at a time."""

    def __init__(self, deployment):
        self.deployment, self.institute = deployment, f"bench-{uuid.uuid4().hex[:8]}"
        self.token = deployment.user(self.institute)

    def store(self, size):
        """Sends a message of so many bytes, and waits until its event was sent and the queue has forgotten it."""
        self.deployment.store(self.token, self.institute, uuid.uuid4().hex, size)
        url, sqs = self.deployment.outputs["queueUrl"], self.deployment.client("sqs")
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        counts = lambda: sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]  # noqa: E731
        wait("the queue", lambda: set(counts().values()) == {"0"})


def counted(workers, sender, messages, size, counts):
    """The instructions of each worker, from the start of its process, with so many messages."""
    with workers.counted(counts):
        workers.end()
        for _ in range(messages):
            sender.store(size)
        totals = dict.fromkeys(WORKERS, 0)
        for worker, process in workers.end():
            file = (counts / str(process)).rename(counts / f"{worker}-{messages}-{process}")
            totals[worker] += int(re.search(r"^(?:summary|totals): (\d+)", file.read_text(), re.MULTILINE)[1])
    missing = [worker for worker, total in totals.items() if not total]
    if missing:
        sys.exit(f"no process was counted of: {', '.join(missing)}")
    sender.store(size)  # So that each worker runs again, without callgrind.
    return totals


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--messages", type=int, default=10, help="the messages that count as warm")
    arguments.add_argument("--bytes", type=int, default=2048, help="the size of each")
    arguments.add_argument("--folder", type=pathlib.Path, default=pathlib.Path("target/local"))
    arguments.add_argument("--counts", type=pathlib.Path, help="keep callgrind's files in this folder, for callgrind_annotate")
    arguments.add_argument("--json", type=pathlib.Path, help="write the numbers to this file")
    arguments.add_argument("--baseline", type=pathlib.Path, help="compare with the numbers of this file")
    given = arguments.parse_args()
    deployment = Deployment(given.folder)
    workers, sender = Workers(deployment, given.folder), Sender(deployment)
    sender.store(given.bytes)  # Starts all workers.
    with tempfile.TemporaryDirectory() as folder:
        counts = (given.counts or pathlib.Path(folder)).resolve()
        counts.mkdir(parents=True, exist_ok=True)
        few = counted(workers, sender, FIRST, given.bytes, counts)
        many = counted(workers, sender, FIRST + given.messages, given.bytes, counts)
    warm = {worker: (many[worker] - few[worker]) // given.messages for worker in WORKERS}
    start = {worker: few[worker] - FIRST * warm[worker] for worker in WORKERS}
    numbers = {"warm": {**warm, "all": sum(warm.values())}, "start": {**start, "all": sum(start.values())}}
    before = json.loads(given.baseline.read_text()) if given.baseline else None
    print("| worker | a warm message | its start and first message beyond that |" + (" ratio to before |" if before else ""))
    print("|---|---|---|" + ("---|" if before else ""))
    for worker in (*WORKERS, "all"):
        ratio = f" {numbers['warm'][worker] / before['warm'][worker]:.2f} |" if before else ""
        print(f"| {worker} | {numbers['warm'][worker] / 1e6:.2f} M | {numbers['start'][worker] / 1e6:.1f} M |{ratio}", flush=True)
    if given.json:
        given.json.write_text(json.dumps(numbers, indent=2) + "\n")
    if before and numbers["warm"]["all"] > 1.1 * before["warm"]["all"]:
        sys.exit(f"a warm message takes more than a tenth more instructions than in {given.baseline}")


if __name__ == "__main__":
    main()
