"""
What a wheel has to hold, and what it must not: `make wheel` asks here, and so does a test.

python tests/wheel_contents.py dist/arr_trl-*.whl
"""

import sys
from pathlib import Path
from zipfile import ZipFile


ROOT = Path(__file__).parents[1]


def files_under(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}


def faults_of(wheel: Path) -> list[str]:
    """Sentences about what is missing from a wheel of this checkout, and what has no place in one."""
    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
        (scripts,) = (archive.read(name).decode() for name in names if name.endswith("/entry_points.txt"))
    source, examples = ROOT / "src", ROOT / "examples"
    expected = {path.relative_to(source).as_posix() for path in files_under(source / "arr_trl")}
    expected |= {f"arr_trl/{path.relative_to(ROOT).as_posix()}" for path in files_under(examples)}
    in_package = {name for name in names if ".dist-info/" not in name}
    faults = [f"{name} is missing" for name in sorted(expected - in_package)]
    faults += [f"{name} has no place in it" for name in sorted(in_package - expected)]
    if "Project-URL: Paper, " not in metadata:
        faults.append("its metadata has no project URLs")
    if "arr-trl = arr_trl.cli.main:main" not in scripts:
        faults.append("it brings no command `arr-trl`")
    return faults


def main() -> int:
    faults = [f"{path}: {fault}" for path in sys.argv[1:] for fault in faults_of(Path(path))]
    print("\n".join(faults) or f"{' '.join(sys.argv[1:])}: complete.")
    return 1 if faults or not sys.argv[1:] else 0


if __name__ == "__main__":
    sys.exit(main())
