"""How fast the console's list of messages is, and what Lighthouse says of its pages, on the local AWS.

Run it beside the console, in a checkout, with boto3 (cli/local/requirements-test.txt):

    cargo run -- console --no-open
    python3 tests/benches/console/console.py --browser chromium --records 10000

It makes an institute, its user and its records, installs Lighthouse with the console's own Node, and drives the browser.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import uuid

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "find"))
from find import Deployment  # noqa: E402

ROOT = HERE.parents[2]


class Node:
    """The console's Node, in a folder with packages."""

    def __init__(self, target, folder):
        bin = (target / "console/node/bin").resolve()
        self.folder, self.environment = folder, {**os.environ, "PATH": f"{bin}:{os.environ['PATH']}"}
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, *command, world=None):
        given = json.dumps(world) if world else None
        return subprocess.run(command, cwd=self.folder, env=self.environment, input=given, text=True, check=False).returncode

    def program(self, files, world):
        for file in files:
            shutil.copy(file, self.folder)
        return self.run("node", files[0].name, world=world)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--browser", default="chromium")
    arguments.add_argument("--records", type=int, default=10_000)
    arguments.add_argument("--target", type=pathlib.Path, default=ROOT / "target")
    given = arguments.parse_args()
    browser = shutil.which(given.browser) or sys.exit(f"there is no {given.browser}")
    deployment, institute = Deployment(given.target / "local"), f"bench-{uuid.uuid4().hex[:8]}"
    began = time.monotonic()
    deployment.fill(institute, given.records)
    print(f"{given.records} records of {institute} in {time.monotonic() - began:.0f} s", flush=True)
    email, password = deployment.account(institute)
    world = {"browser": browser, "records": given.records, "user": {"email": email, "password": password}}

    page = Node(given.target, given.target / "console/page/tests")
    failed = page.program([HERE / "speed.mjs", ROOT / "console/tests/browser.mjs"], world)
    judge = Node(given.target, given.target / "node/lighthouse")
    for manifest in ("package.json", "package-lock.json"):
        shutil.copy(HERE / manifest, judge.folder)
    began = time.monotonic()
    failed |= judge.run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent")
    print(f"Lighthouse installed in {time.monotonic() - began:.0f} s", flush=True)
    began = time.monotonic()
    failed |= judge.program([HERE / "lighthouse.mjs"], world)
    print(f"Lighthouse took {time.monotonic() - began:.0f} s", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
