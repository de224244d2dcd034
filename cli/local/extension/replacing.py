"""How a function of MiniStack is replaced, and for which version of MiniStack."""

import importlib.metadata

MINISTACK_VERSION = "1.5.33"


class Refused(Exception):
    """A condition under which the local AWS must not start."""


def check_version():
    """Refuse any MiniStack other than the one these replacements were written for."""
    try:
        installed = importlib.metadata.version("ministack")
    except importlib.metadata.PackageNotFoundError:
        installed = "none"
    if installed != MINISTACK_VERSION:
        raise Refused(f"this needs ministack {MINISTACK_VERSION}, found {installed}: install requirements.txt")


def wrap(module, name, make):
    """Replace module.name by make(original); refuse to start when there is no such function."""
    original = getattr(module, name, None)
    if not callable(original):
        raise Refused(f"ministack {MINISTACK_VERSION} should have {module.__name__}.{name}, but does not")
    setattr(module, name, make(original))
