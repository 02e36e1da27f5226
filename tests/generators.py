"""The scripts that write what is generated; they stand beside it and belong to no package."""

import importlib.util
import sys
from types import ModuleType

from tests.realparts.parts import ROOT


def generator(folder: str) -> ModuleType:
    """The ``generate.py`` of a folder of the repository, such as ``deploy/crd``, loaded afresh."""
    name = f"generate_{folder.replace('/', '_')}"
    found = importlib.util.spec_from_file_location(name, ROOT / folder / "generate.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module  # dataclasses look there
    found.loader.exec_module(module)
    return module
