from collections.abc import Iterable
from typing import Union

from launch.core import Substitution

SomeSubstitutionsType = Union[str, Substitution, Iterable[Union[str, Substitution]]]
