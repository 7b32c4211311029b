"""Compiles the native engine when the package is installed or a wheel is built, and adds the guide.

Without a compiler, or with VITRUVIUS_NO_NATIVE=1, the package is installed without it: everything works through
PyTorch, and `python -m vitruvius.native.build` adds it later.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Native(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the pages of `vitruvius docs` to the wheel, and the compiled library, whose platform its tag then names."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """`version` is "standard" or "editable"; an editable install finds the library beside the sources."""
        if version != "editable":
            pages = Path(self.root).glob("docs/*.md")
            build_data["force_include"] |= {str(page): f"vitruvius/guide/{page.name}" for page in pages}
        if os.environ.get("VITRUVIUS_NO_NATIVE"):
            return
        sys.path.insert(0, str(Path(self.root) / "src"))
        from vitruvius.errors import InputError
        from vitruvius.native.build import SOURCES, TARGET, build

        newest = max(path.stat().st_mtime for path in SOURCES.rglob("*") if path.is_file())
        if not TARGET.exists() or TARGET.stat().st_mtime < newest:
            self.app.display_info("compiling the native engine: about a minute")
            try:
                build()
            except InputError as error:
                self.app.display_warning(f"{error}; installing without the native engine")
                return
        if version == "editable":
            return
        library = TARGET.relative_to(Path(self.root) / "src")
        build_data["force_include"][str(TARGET)] = library.as_posix()
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["pure_python"], build_data["tag"] = False, f"py3-none-{platform}"
