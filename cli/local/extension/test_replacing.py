"""The extension starts for one version of MiniStack, and only with every rule in place."""

import os
import subprocess
import types

import pytest

from .replacing import Refused, wrap
from .test_support import EXTENSION, FOLDER


def start_with(tmp_path, version, app="def main():\n    print('serving')\n"):
    """Start the extension with a stand-in MiniStack of this version."""
    package = tmp_path / "ministack"
    for directory in (package, package / "core", package / "services"):
        directory.mkdir(parents=True)
        (directory / "__init__.py").write_text("")
    (package / "app.py").write_text(app)
    info = tmp_path / f"ministack-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: ministack\nVersion: {version}\n")
    return subprocess.run(EXTENSION, env={**os.environ, "PYTHONPATH": f"{tmp_path}:{FOLDER}"},
                          capture_output=True, text=True, timeout=30)


def test_refuses_another_version(tmp_path):
    run = start_with(tmp_path, "1.5.34")
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr == ("local AWS not started: this needs ministack 1.5.33, found 1.5.34: "
                          "install requirements.txt\n")


def test_refuses_a_version_without_a_function_it_replaces(tmp_path):
    run = start_with(tmp_path, "1.5.33")
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr.startswith("local AWS not started: ")


def test_names_the_function_that_is_missing():
    module = types.ModuleType("ministack.core.somewhere")
    with pytest.raises(Refused, match=r"should have ministack\.core\.somewhere\.gone, but does not"):
        wrap(module, "gone", lambda original: original)
