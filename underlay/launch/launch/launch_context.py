from launch.core import LaunchContext

__all__ = ["LaunchContext"]
