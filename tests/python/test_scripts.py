"""The shell scripts: their options, and what the installer asks of the package manager."""

import os
import shutil
import subprocess

import pytest

WITH_OPTIONS = ["quickstart.sh", "test.sh", "bench.sh", "install_dependencies.sh", "test_kernels_aarch64.sh", "sweep_slurm.sh"]


def run(command, **options):
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **options,
    )


def test_every_script_parses(repo_root):
    scripts = [*sorted((repo_root / "scripts").glob("*.sh")), repo_root / ".ci/run"]
    assert len(scripts) > len(WITH_OPTIONS)
    for script in scripts:
        result = run(["bash", "-n", script])
        assert (result.returncode, result.stderr) == (0, ""), script


def test_every_script_that_is_run_can_be_and_stops_at_the_first_error(repo_root):
    for script in [*(repo_root / "scripts" / name for name in WITH_OPTIONS), repo_root / ".ci/run"]:
        assert os.access(script, os.X_OK), script
        lines = script.read_text().splitlines()
        assert lines[0] == "#!/usr/bin/env bash", script
        assert "set -euo pipefail" in lines, script


def test_ci_runs_every_check(repo_root):
    assert "exec scripts/test.sh --full </dev/null" in (repo_root / ".ci/run").read_text()


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("name", WITH_OPTIONS)
def test_help_does_nothing_else(repo_root, tmp_path, name, option):
    result = run([repo_root / "scripts" / name, option], cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"usage: scripts/{name}")
    assert "==>" not in result.stdout


@pytest.mark.parametrize("name", WITH_OPTIONS)
def test_an_unknown_option_is_one_line_and_status_2(repo_root, tmp_path, name):
    result = run([repo_root / "scripts" / name, "--no-such-option"], cwd=tmp_path)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(f"{name}: error: unknown ")
    assert result.stderr.count("\n") == 1


@pytest.fixture
def install(repo_root, tmp_path):
    """install(*groups, missing=(), user=0, sudo=False): the result and the calls of apt-get, on a
    system where all but `missing` is installed. Nothing but these programs is on PATH."""
    programs = tmp_path / "programs"
    programs.mkdir()
    log = tmp_path / "calls"

    def program(name, text):
        file = programs / name
        file.write_text(f"#!{shutil.which('bash')}\n{text}\n")
        file.chmod(0o755)

    def call(*groups, missing=(), user=0, sudo=False):
        for name in ("bash", "env"):
            (programs / name).symlink_to(shutil.which(name))
        # As dpkg does: a name that it has never heard of makes no line, and status 1.
        program(
            "dpkg-query",
            f"""status=0
            for name in "${{@:4}}"; do
              case " {' '.join(missing)} " in
                *" $name "*) status=1 ;;
                *) echo "$name installed" ;;
              esac
            done
            echo "libfmt-dev:i386 not-installed"
            exit $status""",
        )
        program("id", f"echo {user}")
        program("apt-get", f'echo "$DEBIAN_FRONTEND apt-get $*" >>{log}')
        if sudo:
            program("sudo", f'echo "sudo" >>{log}; "$@"')
        result = run(
            [repo_root / "scripts/install_dependencies.sh", *groups],
            env={"PATH": str(programs)},
        )
        return result, log.read_text().splitlines() if log.exists() else []

    return call


def test_nothing_is_done_where_nothing_is_missing(install):
    result, calls = install("build", "test", "tidy", user=1000)
    assert (result.returncode, result.stdout, result.stderr) == (0, "nothing to install\n", "")
    assert calls == []


def test_only_what_is_missing_is_installed(install):
    result, calls = install("build", "test", missing=["libfmt-dev", "doctest-dev", "clang-tidy"])
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "installing libfmt-dev doctest-dev\n"
    assert calls == [
        "noninteractive apt-get -q update",
        "noninteractive apt-get -q install -y --no-install-recommends libfmt-dev doctest-dev",
    ]


def test_the_default_is_what_the_build_needs(install):
    result, calls = install(missing=["doctest-dev", "python3-pytest", "clang-tidy"])
    assert (result.returncode, result.stdout) == (0, "nothing to install\n")
    assert calls == []


def test_another_user_installs_through_sudo(install):
    result, calls = install("build", missing=["g++"], user=1000, sudo=True)
    assert result.returncode == 0
    assert calls == [
        "sudo",
        "noninteractive apt-get -q update",
        "sudo",
        "noninteractive apt-get -q install -y --no-install-recommends g++",
    ]


def test_without_root_and_sudo_it_says_what_to_install(install):
    result, calls = install("build", missing=["g++", "cmake"], user=1000)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "install_dependencies.sh: error: packages are missing; as root, run: "
        "apt-get install g++ cmake\n"
    )
    assert calls == []


def test_without_dpkg_it_says_what_is_needed(repo_root, tmp_path):
    for name in ("bash", "env"):
        (tmp_path / name).symlink_to(shutil.which(name))
    result = run([repo_root / "scripts/install_dependencies.sh"], env={"PATH": str(tmp_path)})
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(
        "install_dependencies.sh: error: not a Debian system; install what these packages hold: g++"
    )
