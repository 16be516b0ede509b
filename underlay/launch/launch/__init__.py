"""A stand-in for ROS 2's `launch`: as much as crowd4d_ros' launch files use, with its names and arguments.

An entity (action, description) is visited with a context: it reads and changes the context, and may return
further entities. launch.service runs a description until its processes have ended.
"""

from launch.core import Action, LaunchContext, LaunchDescription, LaunchDescriptionEntity, Substitution
from launch.launch_description_sources import LaunchDescriptionSource
from launch.service import LaunchService

__all__ = [
    "Action",
    "LaunchContext",
    "LaunchDescription",
    "LaunchDescriptionEntity",
    "LaunchDescriptionSource",
    "LaunchService",
    "Substitution",
]
