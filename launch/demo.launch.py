"""A video file through the whole graph, into a folder:

    ros2 launch crowd4d_ros demo.launch.py [video:=FILE camera_info:=FILE out:=FOLDER]

Without a video it plays vtest.avi of the system's package opencv-doc. The launch ends when everything is written.
"""

from launch.actions import DeclareLaunchArgument, GroupAction, IncludeLaunchDescription, Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, PythonExpression
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

VTEST = "/usr/share/doc/opencv-doc/examples/data/vtest.avi"
VTEST_CAMERA = PathJoinSubstitution([FindPackageShare("crowd4d_ros"), "config", "vtest_camera_info.yaml"])
VTEST_FPS = "7.0"  # recorded at 7 frames/s; the file says 10


def for_vtest(default, otherwise):
    """What an argument is if none is given: it depends on whether the video is the demo's."""
    is_vtest = ["'", LaunchConfiguration("video"), f"' == '{VTEST}'"]
    return PythonExpression(["'", default, "' if ", *is_vtest, f" else '{otherwise}'"])


ARGUMENTS = {
    "video": (VTEST, "the video file; default: OpenCV's pedestrians, from the package opencv-doc"),
    "out": ("out/demo", "the results' folder"),
    "camera_info": (for_vtest(VTEST_CAMERA, ""), "its camera_info YAML file; empty: the focal length is estimated"),
    "fps": (for_vtest(VTEST_FPS, "0.0"), "overrides the container's frame rate; 0: the container's"),
    "start": ("0", "frames to skip"),
    "frames": ("0", "frames to play; 0: to the end"),
    "rate": ("0.0", "relative to real time; 0: as fast as it can be reconstructed"),
    "record_bag": ("true", "also record a bag, into OUT/bag"),
    "device": ("auto", "auto, cpu or cuda"),
    "body": ("", "an SMPL file; empty: the embedded licence-free body"),
    "bodies": ("light", "light, full or none: how RViz draws people"),
    "rviz": ("false", "start RViz"),
}
CROWD4D = PathJoinSubstitution([FindPackageShare("crowd4d_ros"), "launch", "crowd4d.launch.py"])
IMAGE, CAMERA_INFO = "camera/image_raw", "camera/camera_info"
INITIALIZER_AND_VISUALIZER = 2


def generate_launch_description():
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    kinds = {"video": str, "camera_info": str, "fps": float, "start": int, "frames": int, "rate": float}
    player = Node(
        package="crowd4d_ros",
        executable="player",
        name="player",
        output="screen",
        remappings=[("image", IMAGE), ("camera_info", CAMERA_INFO)],
        parameters=[
            {
                "wait_for": INITIALIZER_AND_VISUALIZER,
                **{name: ParameterValue(LaunchConfiguration(name), value_type=kind) for name, kind in kinds.items()},
            }
        ],
        on_exit=Shutdown(reason="the player has ended"),
    )
    same = ("out", "record_bag", "device", "body", "bodies", "rviz")
    graph = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(CROWD4D),
        launch_arguments={
            "image": IMAGE,
            "camera_info": CAMERA_INFO,
            "reliable": "true",
            "first_frame": LaunchConfiguration("start"),
            **{name: LaunchConfiguration(name) for name in same},
        }.items(),
    )
    return LaunchDescription([*declared, player, GroupAction([graph])])
