from collections.abc import Iterable

from launch.core import Substitution

SomeSubstitutionsType = str | Substitution | Iterable[str | Substitution]
