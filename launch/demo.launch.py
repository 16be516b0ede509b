"""A video file through the whole graph, into a folder:

    ros2 launch crowd4d_ros demo.launch.py video:=FILE out:=FOLDER

The launch ends when everything is written.
"""

from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    RegisterEventHandler,
    Shutdown,
)
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

ARGUMENTS = {
    "video": (None, "the video file"),
    "out": (None, "the results' folder"),
    "camera_info": ("", "its camera_info YAML file; empty: the focal length is estimated"),
    "fps": ("0.0", "overrides the container's frame rate; 0: the container's"),
    "start": ("0", "frames to skip"),
    "frames": ("0", "frames to play; 0: to the end"),
    "rate": ("0.0", "relative to real time; 0: as fast as it can be reconstructed"),
    "bag": ("true", "also record a bag into OUT/bag"),
    "device": ("auto", "auto, cpu or cuda"),
    "body": ("", "an SMPL file; empty: the embedded licence-free body"),
    "bodies": ("light", "light, full or none: how RViz draws people"),
    "rviz": ("false", "start RViz"),
}
RECORDER_AND_OPTIMIZER = RECORDER_AND_VISUALIZER = INITIALIZER_AND_VISUALIZER = 2


def typed(name, kind):
    return ParameterValue(LaunchConfiguration(name), value_type=kind)


def generate_launch_description():
    camera = [("image", "camera/image_raw"), ("camera_info", "camera/camera_info")]
    player = Node(
        package="crowd4d_ros",
        executable="player",
        name="player",
        output="screen",
        remappings=camera,
        parameters=[
            {
                "video": typed("video", str),
                "camera_info": typed("camera_info", str),
                "fps": typed("fps", float),
                "start": typed("start", int),
                "frames": typed("frames", int),
                "rate": typed("rate", float),
                "wait_for": INITIALIZER_AND_VISUALIZER,
            }
        ],
    )
    recorder = Node(
        package="crowd4d_ros",
        executable="recorder",
        name="recorder",
        output="screen",
        parameters=[{"out": typed("out", str), "bag": typed("bag", bool), "body": typed("body", str)}],
    )
    graph = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(
            PathJoinSubstitution([FindPackageShare("crowd4d_ros"), "launch", "crowd4d.launch.py"])
        ),
        launch_arguments={
            "image": "camera/image_raw",
            "camera_info": "camera/camera_info",
            "bag": "",
            "reliable": "true",
            "wait_for": str(RECORDER_AND_OPTIMIZER),
            "first_frame": LaunchConfiguration("start"),
            "device": LaunchConfiguration("device"),
            "body": LaunchConfiguration("body"),
            "bodies": LaunchConfiguration("bodies"),
            "rviz": LaunchConfiguration("rviz"),
        }.items(),
    )
    stop = [
        RegisterEventHandler(
            OnProcessExit(target_action=node, on_exit=[Shutdown(reason=f"{name} has ended")])
        )
        for name, node in (("the recorder", recorder), ("the player", player))
    ]
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, *stop, recorder, player, GroupAction([graph])])
