"""What the Python tests share: the checkout, the program and the package under test, third-party
data.
"""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def pytest_collection_modifyitems(config, items):
    """Under sanitizers only the tests that run the program can tell anything new."""
    if os.environ.get("MOESIM_SANITIZED"):
        others = [item for item in items if "sim" not in item.fixturenames]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if "sim" in item.fixturenames]


@pytest.fixture(scope="session")
def repo_root():
    return REPOSITORY


@pytest.fixture(scope="session")
def sim():
    """The program: $MOESIM_SIM, or else that of the release build."""
    path = Path(os.environ.get("MOESIM_SIM") or REPOSITORY / "build/release/bin/sim")
    if not path.is_file():
        pytest.fail(f"no program at {path}; build it or set MOESIM_SIM")
    return path


@pytest.fixture(scope="session")
def run_sim(sim):
    """run_sim(*arguments, cwd=the checkout, timeout=120): the CompletedProcess, output as text."""

    def run(*arguments, cwd=REPOSITORY, timeout=120):
        return subprocess.run(
            [sim, *map(str, arguments)],
            cwd=cwd,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def build_dir(sim):
    """The build folder that the program is from."""
    return Path(os.environ.get("MOESIM_BUILD_DIR") or sim.parents[1])


@pytest.fixture(scope="session")
def package_path(build_dir):
    """The folder that holds the Python package; skips where the build has none."""
    path = build_dir / "python"
    if not list(path.glob("moesim/_moesim.*.so")):
        pytest.skip("the build has no Python package (pybind11-dev, python3-dev)")
    return path


@pytest.fixture(scope="session")
def moesim(package_path):
    """The Python package of the build."""
    sys.path.insert(0, str(package_path))
    return importlib.import_module("moesim")


@pytest.fixture
def in_the_checkout(monkeypatch):
    """The working directory, so that paths are those that the program gets."""
    monkeypatch.chdir(REPOSITORY)


@pytest.fixture(scope="session")
def data_dir():
    """The third-party data, which is never copied into the project; skips where it is not at hand."""
    path = os.environ.get("MOESIM_DATA_DIR")
    if not path:
        pytest.skip("MOESIM_DATA_DIR is not set")
    return Path(path)
