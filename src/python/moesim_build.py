"""Builds the wheel of the package moesim for pip (PEP 517): CMake makes the extension module, and
this file packs it together with the package and the built-in models and devices.

The build folder is build/pip-PLATFORM of the checkout, or one that has been configured already:
MOESIM_BUILD_DIR in the environment, or `pip install --config-settings build-dir=DIR`; a relative
one is relative to the checkout.
"""

import base64
import hashlib
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NAME = "moesim"
TAG = f"cp{sys.version_info.major}{sys.version_info.minor}"
PLATFORM = re.sub(r"[-.]", "_", sysconfig.get_platform())
WHEEL = f"Wheel-Version: 1.0\nGenerator: moesim_build\nRoot-Is-Purelib: false\nTag: {TAG}-{TAG}-{PLATFORM}\n"
# The same for every file, so that equal sources give equal wheels.
DATE = (1980, 1, 1, 0, 0, 0)


def version():
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    return re.search(r"project\(moesim VERSION ([\d.]+)", text)[1]


def metadata():
    return (
        f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {version()}\n"
        "Summary: Simulates memory-constrained decoding of mixture-of-experts models\n"
        f"Requires-Python: =={sys.version_info.major}.{sys.version_info.minor}.*\n"
        "Requires-Dist: numpy\n"
    )


def info_folder():
    return f"{NAME}-{version()}.dist-info"


def run(*command):
    print("$", " ".join(map(str, command)), flush=True)
    try:
        subprocess.run(command, check=True)
    except FileNotFoundError:
        raise SystemExit(f"moesim: error: {command[0]} is missing (Debian: cmake, ninja-build)") from None
    except subprocess.CalledProcessError as failure:
        raise SystemExit(f"moesim: error: {command[0]} failed with status {failure.returncode}") from None


def chosen_build_dir(config_settings):
    """The build folder that the user named, or None. pip runs this file in src/python, so a relative
    one is taken from the root of the checkout."""
    chosen = (config_settings or {}).get("build-dir") or os.environ.get("MOESIM_BUILD_DIR")
    return ROOT / chosen if chosen else None


def build_module(build_dir):
    """Builds the package in a CMake build folder and returns its folder there."""
    if not build_dir:
        build_dir = ROOT / "build" / f"pip-{TAG}-{PLATFORM}"
        run(
            "cmake",
            *("-S", ROOT, "-B", build_dir, "-G", "Ninja"),
            "-DCMAKE_BUILD_TYPE=Release",
            "-DMOESIM_BUILD_PYTHON=ON",
            f"-DMOESIM_PYTHON={sys.executable}",
            *("-DMOESIM_BUILD_TESTS=OFF", "-DMOESIM_BUILD_BENCHMARKS=OFF"),
        )
    elif not (Path(build_dir) / "CMakeCache.txt").is_file():
        raise SystemExit(f"moesim: error: {build_dir}: expected a configured build folder")
    run("cmake", "--build", build_dir, "--target", "moesim_python")
    return Path(build_dir) / "python" / NAME


def package_files(package):
    """(path in the wheel, file) of the package as it was built and of what it finds by name."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    module = package / f"_moesim{suffix}"
    if not module.is_file():
        raise SystemExit(f"moesim: error: {module}: expected a module for {sys.executable}, got none")
    yield f"{NAME}/{module.name}", module
    for file in sorted((HERE / NAME).iterdir()):
        if file.suffix in {".py", ".pyi", ".typed"}:
            yield f"{NAME}/{file.name}", file
    for kind in ("devices", "models"):
        for file in sorted((ROOT / "configs" / kind).glob("*.json")):
            yield f"{NAME}/configs/{kind}/{file.name}", file


class Wheel:
    """A wheel that is being written; RECORD comes last."""

    def __init__(self, path):
        self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED)
        self._rows = []

    def add(self, name, content, mode=0o644):
        entry = zipfile.ZipInfo(name, DATE)
        entry.external_attr = mode << 16
        entry.compress_type = zipfile.ZIP_DEFLATED
        self._zip.writestr(entry, content)
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        self._rows.append(f"{name},sha256={digest},{len(content)}\n")

    def close(self, info):
        self._rows.append(f"{info}/RECORD,,\n")
        self._zip.writestr(zipfile.ZipInfo(f"{info}/RECORD", DATE), "".join(self._rows))
        self._zip.close()


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """PEP 517."""
    package = build_module(chosen_build_dir(config_settings))
    name = f"{NAME}-{version()}-{TAG}-{TAG}-{PLATFORM}.whl"
    wheel = Wheel(Path(wheel_directory) / name)
    for place, file in package_files(package):
        wheel.add(place, file.read_bytes(), 0o755 if file.suffix == ".so" else 0o644)
    wheel.add(f"{info_folder()}/METADATA", metadata().encode())
    wheel.add(f"{info_folder()}/WHEEL", WHEEL.encode())
    wheel.close(info_folder())
    return name


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    """PEP 517: without it pip builds twice."""
    folder = Path(metadata_directory) / info_folder()
    folder.mkdir()
    (folder / "METADATA").write_text(metadata(), encoding="utf-8")
    (folder / "WHEEL").write_text(WHEEL, encoding="utf-8")
    return folder.name


def build_sdist(sdist_directory, config_settings=None):
    """PEP 517 asks for it; the package cannot be built apart from the checkout."""
    raise NotImplementedError("moesim is installed from its checkout: pip install ./src/python")
