import inspect
import re

import pytest

from streamstyle import errors

FAMILY = [each for _, each in inspect.getmembers(errors, inspect.isclass) if each.__module__ == errors.__name__]


def test_the_tree_in_the_docstring_is_the_tree():
    drawn = set(re.findall(r"[├└]── (\w+)", errors.__doc__))
    assert drawn == {each.__name__ for each in FAMILY} - {"StreamstyleError"}


@pytest.mark.parametrize("error", FAMILY)
def test_one_except_clause_catches_all(error):
    with pytest.raises(errors.StreamstyleError, match="what and where"):
        raise error("what and where")


def test_a_shape_error_is_also_a_value_error():
    assert issubclass(errors.ShapeError, ValueError)
