"""What the repository holds: the agreed layout, nothing large, nothing fetched, nothing copied."""

import hashlib
import re
import shutil
import subprocess

import pytest

REQUIRED = {
    ".ci",
    "CMakeLists.txt",
    "CMakePresets.json",
    "README.md",
    "configs",
    "docs",
    "scripts",
    "sim",
    "src",
    "tests",
    "traces",
}
ALLOWED = REQUIRED | {
    ".clang-format",
    ".clang-tidy",
    ".gitignore",
    "LICENSE",
}
LARGEST = 6 * 2**20
# Third-party data that tests read where they lie; relative to $MOESIM_DATA_DIR.
NOT_OURS = ["raw_traces", "phone_measurements", "hf_configs"]
DOWNLOADS = re.compile(
    r"FetchContent|ExternalProject|CPMAddPackage|file\s*\(\s*DOWNLOAD|\bgit\s+clone\b|\bcurl\b|\bwget\b",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def tracked(repo_root):
    """The files that git tracks and that are there."""
    if not (repo_root / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout, or no git")
    # Another user may own the checkout, as under sudo.
    listing = subprocess.run(
        ["git", "-c", f"safe.directory={repo_root}", "ls-files", "-z"],
        cwd=repo_root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    files = [repo_root / name for name in listing.split("\0") if name]
    assert files
    return [file for file in files if file.is_file()]


def sha256(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_the_top_level_is_the_agreed_one(repo_root, tracked):
    top = {file.relative_to(repo_root).parts[0] for file in tracked}
    assert top - ALLOWED == set()
    assert REQUIRED - top == set()


def test_no_file_is_larger_than_6_mib(tracked):
    assert [file for file in tracked if file.stat().st_size > LARGEST] == []


def test_there_are_no_submodules(repo_root, tracked):
    assert not (repo_root / ".gitmodules").exists()
    assert [file for file in tracked if file.name == ".git"] == []


def test_the_build_downloads_nothing(repo_root):
    files = [repo_root / "CMakeLists.txt", repo_root / "CMakePresets.json"]
    for folder in ("sim", "src", "tests"):
        files += (repo_root / folder).rglob("CMakeLists.txt")
        files += (repo_root / folder).rglob("*.cmake")
    assert len(files) >= 5
    assert [file for file in files if DOWNLOADS.search(file.read_text())] == []


def test_every_source_is_built(repo_root):
    """A source that no CMakeLists.txt names is compiled by nobody, and so checked by nobody."""
    for folder in ("src", "sim"):
        named, globbed = set(), set()
        for lists in (repo_root / folder).rglob("CMakeLists.txt"):
            text, at = lists.read_text(), lists.parent.relative_to(repo_root / folder)
            named |= {str(at / name) for name in re.findall(r"[\w/]+\.cpp\b", text)}
            globbed |= {str(at / name) for name in re.findall(r"([\w/]+)/\*\.cpp", text)}
        sources = [file.relative_to(repo_root / folder) for file in (repo_root / folder).rglob("*.cpp")]
        assert sources
        assert [
            str(source)
            for source in sources
            if str(source) not in named and str(source.parent) not in globbed
        ] == []


def test_third_party_data_is_not_in_the_tree(tracked, data_dir):
    theirs = {
        sha256(file): file
        for folder in NOT_OURS
        for file in (data_dir / folder).rglob("*")
        if file.is_file() and file.stat().st_size > 0
    }
    assert theirs
    copies = {str(file): str(theirs.get(sha256(file))) for file in tracked if sha256(file) in theirs}
    assert copies == {}
