"""
Everything about the package stands in setup.cfg, but for two things. examples/ goes into the wheel, as data of the package, so
that what people read in the repository is nowhere twice; `arr_trl.shipped` finds it in both places. And the addresses of the
repository are those of the one that builds, which a workflow on GitHub knows.
"""

import os
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithExamples(build_py):
    """Copies examples/ beside the modules, where a wheel is built; an editable install reads them where they are."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for source in sorted(path for path in Path("examples").rglob("*") if path.is_file()):
            if "__pycache__" in source.parts:
                continue
            target = Path(self.build_lib, "arr_trl", source)
            self.mkpath(str(target.parent))
            self.copy_file(str(source), str(target))


urls = {"Paper": "https://huggingface.co/papers/2605.08354"}
if "GITHUB_REPOSITORY" in os.environ:
    repository = f"{os.environ['GITHUB_SERVER_URL']}/{os.environ['GITHUB_REPOSITORY']}"
    urls |= {
        "Repository": repository,
        "Issues": f"{repository}/issues",
        "Changelog": f"{repository}/blob/main/CHANGELOG.md",
    }
setup(cmdclass={"build_py": WithExamples}, project_urls=urls)
