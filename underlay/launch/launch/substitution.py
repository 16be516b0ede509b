from launch.core import Substitution

__all__ = ["Substitution"]
