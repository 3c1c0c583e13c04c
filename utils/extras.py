"""Optional packages (requirements-*.txt), imported where they are needed."""

from importlib import import_module
from types import ModuleType

from utils.errors import UserError


def import_extra(
    what: str, *names: str, requirements: str = "requirements-extra.txt"
) -> ModuleType:
    """Import modules that `what` needs and return the first; UserError with the pip line where one
    is missing."""
    try:
        return [import_module(name) for name in names][0]
    except ImportError as error:
        raise UserError(
            f"{what} need {error.name or names[0]}: pip install -r {requirements}"
        ) from None
