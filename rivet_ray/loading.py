"""Registries by name, `module:Class`, as commands and processes of a cluster are told them."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from rivet_ray.errors import DefinitionError
from rivet_ray.registry import Registry, merge


class NotLoadable(Exception):
    """There is no such registry, or it has faults; the message is one line for its user."""


def load(names: Sequence[str]) -> type[Registry]:
    """The registries of `module:Class` names, as one. Raises NotLoadable."""
    directory = str(Path.cwd())
    if directory not in sys.path:
        sys.path.insert(0, directory)
    try:
        return merge([_load(name) for name in names])
    except DefinitionError as error:
        raise NotLoadable(str(error)) from error


def _load(name: str) -> type[Registry]:
    module_name, separator, attribute = name.partition(":")
    if not separator or not module_name or not attribute:
        raise NotLoadable(f"{name!r} is no registry; write module:Class, like counter:App.")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name + ".").startswith(error.name + "."):
            raise NotLoadable(
                f"There is no module {module_name!r} here or among the installed packages."
            ) from error
        raise NotLoadable(f"{module_name} needs the module {error.name!r}.") from error
    except DefinitionError:
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise NotLoadable(
            f"{module_name} cannot be imported: {type(error).__name__}: {error} "
            f"({place.filename}:{place.lineno})"
        ) from error
    found = getattr(module, attribute, None)
    if found is None:
        raise NotLoadable(f"{module_name} has no {attribute!r}.")
    if not (isinstance(found, type) and issubclass(found, Registry)):
        raise NotLoadable(f"{name} is no Registry class.")
    return found
