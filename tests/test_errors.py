import inspect
import re

from nasopt import errors


def test_the_tree_in_the_docstring_is_the_tree():
    drawn = set(re.findall(r"\b(\w+Error)\b", errors.__doc__))
    defined = {name for name, _ in inspect.getmembers(errors, inspect.isclass)}
    assert drawn == defined


def test_all_errors_can_be_caught_as_one():
    for _, error in inspect.getmembers(errors, inspect.isclass):
        assert issubclass(error, errors.NasoptError)
