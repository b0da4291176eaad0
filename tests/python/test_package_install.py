"""The package installs with pip from the checkout, without a network, and stands on its own there."""

import json
import os
import subprocess
import sys
import zipfile

import pytest

PROGRAM = """
import json, moesim
from pathlib import Path
folder = Path(moesim.__file__).parent
trace = moesim.Trace.load({trace!r})
result = moesim.run({{"trace": {{"path": trace, "max_tokens": 8}}, "model": "olmoe-1b-7b",
                     "device": "oneplus-15r", "cache": {{"capacity_experts": 16}}}})
print(json.dumps([str(folder), len(moesim.models()), result["throughput"]["decode_tokens_per_s"]]))
"""


def run(*command, **options):
    options = {"capture_output": True, "text": True, "check": False, "timeout": 600} | options
    return subprocess.run([str(word) for word in command], **options)


@pytest.fixture(scope="module")
def environment(tmp_path_factory, package_path, build_dir, repo_root):
    """A virtual environment into which pip has installed the package, from the build at hand."""
    folder = tmp_path_factory.mktemp("environment")
    made = run(sys.executable, "-m", "venv", "--system-site-packages", folder)
    if made.returncode != 0:
        pytest.skip(f"no virtual environment (python3-venv): {made.stdout}{made.stderr}")
    install = ("pip", "install", "-q", "--no-index", "--no-build-isolation")
    settings = {**os.environ, "MOESIM_BUILD_DIR": str(build_dir), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    settings.pop("PYTHONPATH", None)
    installed = run(
        *(folder / "bin/python", "-m", *install, repo_root / "src/python"), env=settings
    )
    assert installed.returncode == 0, installed.stdout + installed.stderr
    return folder


def test_the_installed_package_stands_alone(environment, repo_root, tmp_path, moesim):
    """In another folder, and without the checkout's models and devices."""
    program = PROGRAM.format(trace=str(repo_root / "traces/reference-moe-small.safetensors"))
    settings = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    result = run(environment / "bin/python", "-c", program, cwd=tmp_path, env=settings)
    assert result.returncode == 0, result.stderr
    folder, models, speed = json.loads(result.stdout)
    assert folder.startswith(str(environment))
    assert models == len(moesim.models())
    assert speed > 0
    assert (environment / folder / "configs/devices/oneplus-15r.json").is_file()
    checked = run(environment / "bin/python", "-m", "pip", "show", "-f", "moesim", env=settings)
    for file in ("moesim/__init__.pyi", "moesim/py.typed", "moesim/configs/models/olmoe-1b-7b.json"):
        assert file in checked.stdout
    assert "numpy" in checked.stdout


def backend(repo_root, code, **settings):
    return run(sys.executable, "-c", f"import moesim_build; {code}", cwd=repo_root / "src/python",
               env={**os.environ, **settings})


def test_equal_sources_give_equal_wheels(package_path, build_dir, repo_root, tmp_path):
    wheels = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        built = backend(
            repo_root,
            f"moesim_build.build_wheel({str(tmp_path / name)!r}, {{'build-dir': {str(build_dir)!r}}})",
        )
        assert built.returncode == 0, built.stdout + built.stderr
        wheels += (tmp_path / name).glob("*.whl")
    assert wheels[0].read_bytes() == wheels[1].read_bytes()
    with zipfile.ZipFile(wheels[0]) as wheel:
        assert wheel.testzip() is None


def test_a_folder_that_is_no_build_is_refused(repo_root, tmp_path):
    built = backend(repo_root, "moesim_build.build_wheel('.')", MOESIM_BUILD_DIR=str(tmp_path))
    assert built.returncode == 1
    assert built.stderr == f"moesim: error: {tmp_path}: expected a configured build folder\n"


def test_a_relative_build_folder_is_below_the_checkout(repo_root):
    code = "print(moesim_build.chosen_build_dir({settings}))"
    for settings, named in (("{'build-dir': 'build/a'}", ""), ("None", "build/a")):
        got = backend(repo_root, code.format(settings=settings), MOESIM_BUILD_DIR=named)
        assert got.stdout == f"{repo_root / 'build/a'}\n", got.stderr
    assert backend(repo_root, code.format(settings={}), MOESIM_BUILD_DIR="/b").stdout == "/b\n"
    assert backend(repo_root, code.format(settings={}), MOESIM_BUILD_DIR="").stdout == "None\n"
