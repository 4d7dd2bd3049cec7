"""The packages of examples/, and the one that `registry new-family` writes, built and installed as a user installs them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
pytestmark = pytest.mark.slow

_SIZES = {
    "vocab_size": 41,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 14,
}
_USE = """
import json, multiprocessing, sys
import registry

def run(folder):
    import torch
    torch.set_num_threads(1)
    with torch.no_grad():
        return registry.load(folder)(torch.tensor([[0, 7, 9, 2]])).logits.tolist()

if __name__ == "__main__":
    from registry import RobertaConfig, RobertaForMaskedLM
    assert "site-packages" in registry.__file__, registry.__file__
    RobertaForMaskedLM(RobertaConfig(**json.loads(sys.argv[1]))).save_pretrained("first")
    model = registry.load("tiny-roberta")
    assert type(model) is RobertaForMaskedLM and model.load_report.clean
    model.save_pretrained("second")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(run, ("second",)) == run("tiny-roberta") == run("first")
    assert registry.resolve("roberta-base").family == "roberta"
    print("as it should be")
"""


class Environment:
    """A fresh virtual environment that sees this one's other packages, such as torch, behind its own."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False)
        self.folder = folder
        self.bin = folder / ("Scripts" if os.name == "nt" else "bin")
        variables = {"base": str(folder), "platbase": str(folder)}
        self.site = Path(sysconfig.get_path("purelib", vars=variables))
        # A path file adds the folder, not the path files in it: packages installed in place stay out.
        (self.site / "others.pth").write_text("".join(f"{path}\n" for path in _other_packages(folder.parent)))

    def run(self, *command: str, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment, offline."""
        ours = ("PYTHON", "REGISTRY_", "PIP_")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        clean |= {"PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}", "REGISTRY_OFFLINE": "1", "PIP_NO_INDEX": "1"}
        clean |= {"REGISTRY_CACHE": str(self.folder.parent / "cache"), "HOME": str(cwd)}
        full = [str(self.bin / "python"), *command]
        done = subprocess.run(full, cwd=cwd, env=clean, capture_output=True, text=True, timeout=400, check=False)
        assert not check or done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done

    def pip(self, *command: str, cwd: Path) -> None:
        """Run pip, which is of the outer environment; nothing is downloaded."""
        self.run("-m", "pip", "--disable-pip-version-check", *command, cwd=cwd)

    def install(self, *wheels: Path, cwd: Path) -> None:
        """Install wheels and nothing else."""
        self.pip("install", "-q", "--no-deps", "--no-index", "--ignore-installed", *map(str, wheels), cwd=cwd)


def _other_packages(folder: Path) -> Iterator[Path]:
    """Yield a folder with links to everything this environment has, but not to the registry and what builds on it."""
    links = folder / "others"
    links.mkdir()
    for place in dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))):
        for path in Path(place).iterdir():
            if not path.name.startswith(("__editable__", "pretrained_registry", "registry", "acme")):
                (links / path.name).symlink_to(path)
    yield links


def wheel(source: Path, into: Path, *names: str) -> Path:
    """Build the wheel of a copy of a source tree, because building leaves things behind."""
    copy = into / f"source-of-{source.name}"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", ".*")
    for name in names or [path.name for path in source.iterdir()]:
        target = copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (source / name).is_dir():
            shutil.copytree(source / name, target, ignore=ignored)
        else:
            shutil.copy(source / name, target)
    built = into / f"wheel-of-{source.name}"
    command = ["wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(built), str(copy)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (file,) = built.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this distribution."""
    names = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "registry", "plugins")
    return wheel(ROOT, tmp_path_factory.mktemp("core"), *names)


@pytest.fixture
def fresh(core: Path, tmp_path: Path) -> Environment:
    """A fresh environment with the registry's wheel in it."""
    environment = Environment(tmp_path / "venv")
    environment.install(core, cwd=tmp_path)
    return environment


def registry_command(fresh: Environment, work: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return fresh.run(str(fresh.bin / "registry"), *arguments, cwd=work, check=False)


def test_a_familys_wheel_works_is_tested_and_goes(fresh: Environment, tmp_path: Path) -> None:
    fresh.install(wheel(EXAMPLES / "registry-roberta", tmp_path), cwd=tmp_path)
    work = tmp_path / "user"
    work.mkdir()
    (work / ".git").mkdir()
    entry = "{family: roberta, head: masked-lm, source: ./first}"
    (work / "models.yaml").write_text(f"registry: 1\nmodels:\n  tiny-roberta: {entry}\n")
    listed = registry_command(fresh, work, "list")
    assert listed.returncode == 0 and {"roberta-base", "gpt2"} <= {line.split()[0] for line in listed.stdout.splitlines()}
    (work / "use.py").write_text(_USE)
    assert "as it should be" in fresh.run("use.py", json.dumps(_SIZES), cwd=work).stdout

    shutil.copytree(EXAMPLES / "registry-roberta" / "tests", work / "tests")
    tested = fresh.run("-m", "pytest", "-q", "--import-mode=importlib", "tests", cwd=work, check=False)
    assert tested.returncode == 0, tested.stdout[-4000:]

    fresh.pip("uninstall", "-q", "-y", "registry-roberta", cwd=work)
    gone = registry_command(fresh, work, "info", "roberta-base")
    assert gone.returncode == 1 and "pip install registry-roberta" in gone.stderr, gone.stderr
    rest = registry_command(fresh, work, "list")
    assert rest.returncode == 0
    assert rest.stdout.splitlines() == [line for line in listed.stdout.splitlines() if not line.startswith("roberta-base ")]


def test_a_catalogs_wheel_brings_its_names(fresh: Environment, tmp_path: Path) -> None:
    fresh.install(wheel(EXAMPLES / "acme-catalog", tmp_path), cwd=tmp_path)
    names = registry_command(fresh, tmp_path, "list", "acme-*").stdout
    assert [line.split()[0] for line in names.splitlines()] == ["acme-router", "acme-support", "acme-support-next"]
    shown = registry_command(fresh, tmp_path, "info", "acme-router")
    assert shown.returncode == 0 and "models.acme.example" in shown.stdout
    assert "acme_catalog" in shown.stdout, "the file that says each field is shown"


def test_a_new_familys_package_installs_and_passes_its_tests(fresh: Environment, tmp_path: Path) -> None:
    written = registry_command(fresh, tmp_path, "new-family", "acme")
    assert written.returncode == 0, written.stderr
    fresh.pip("install", "-q", "--no-deps", "--no-build-isolation", "./registry-acme", cwd=tmp_path)
    tested = fresh.run("-m", "pytest", "-q", "registry-acme", cwd=tmp_path, check=False)
    assert tested.returncode == 0, tested.stdout[-4000:]
    assert registry_command(fresh, tmp_path, "new-family", "acme", "--path", "elsewhere").returncode == 2
