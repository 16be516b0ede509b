"""A live camera, or a bag, to a 4D crowd:  ros2 launch crowd4d_ros crowd4d.launch.py image:=/camera/image_raw

The calibration is taken from camera_info:=TOPIC, or from a file with calibration:=FILE.
bag:=FOLDER replays a bag's images instead of a camera, nothing dropped.
"""

from launch.actions import DeclareLaunchArgument, GroupAction, Shutdown
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, PythonExpression
from launch_ros.actions import Node, PushRosNamespace
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

ARGUMENTS = {
    "image": ("camera/image_raw", "topic of the images; compressed ones on TOPIC/compressed are taken too"),
    "camera_info": ("camera/camera_info", "topic of their calibration"),
    "calibration": ("", "a camera_info YAML file, used instead of the topic"),
    "namespace": ("", "namespace of all nodes and topics"),
    "bag": ("", "a rosbag2 folder whose images are replayed"),
    "bag_topic": ("", "which of the bag's topics; empty: the only one with images"),
    "rate": ("0.0", "of a bag, relative to real time; 0: as fast as it can be reconstructed"),
    "reliable": ("false", "true: nothing is dropped, the source has to wait; bags always do"),
    "wait_for": ("0", "subscribers that initializer and optimizer wait for, before their first message"),
    "first_frame": ("0", "number of the first image in the input"),
    "camera_info_timeout": ("5.0", "seconds to wait for a calibration before the focal length is estimated"),
    "device": ("auto", "auto, cpu or cuda"),
    "body": ("", "an SMPL file; empty: the embedded licence-free body"),
    "bodies": ("light", "light, full or none: how RViz draws people"),
    "playback": (
        "0.0",
        "show frames at this multiple of real time; 0: when they are ready, a window at once",
    ),
    "rviz": ("false", "start RViz"),
}
PARAMETERS = PathJoinSubstitution([FindPackageShare("crowd4d_ros"), "config", "crowd4d.yaml"])


def typed(name, kind):
    return ParameterValue(LaunchConfiguration(name), value_type=kind)


def generate_launch_description():
    image = LaunchConfiguration("image")
    has_bag = PythonExpression(["'", LaunchConfiguration("bag"), "' != ''"])
    reliable = ParameterValue(
        PythonExpression(
            ["'", LaunchConfiguration("bag"), "' != '' or '", LaunchConfiguration("reliable"), "' == 'true'"]
        ),
        value_type=bool,
    )
    common = {"reliable": reliable, "device": typed("device", str), "body": typed("body", str)}
    topics = [
        ("image", image),
        ("image/compressed", [image, "/compressed"]),
        ("camera_info", LaunchConfiguration("camera_info")),
    ]

    def node(name, parameters, **options):
        return Node(
            package="crowd4d_ros",
            executable=name,
            name=name,
            output="screen",
            parameters=[LaunchConfiguration("parameters"), {**common, **parameters}],
            remappings=topics,
            on_exit=Shutdown(reason=f"{name} has ended"),
            **options,
        )

    nodes = GroupAction(
        [
            PushRosNamespace(LaunchConfiguration("namespace")),
            node(
                "initializer",
                {
                    "camera_info": typed("calibration", str),
                    "camera_info_timeout": typed("camera_info_timeout", float),
                    "first_frame": typed("first_frame", int),
                    "wait_for": typed("wait_for", int),
                },
            ),
            node("optimizer", {"wait_for": typed("wait_for", int)}),
            node("visualizer", {"bodies": typed("bodies", str), "playback": typed("playback", float)}),
            Node(
                package="crowd4d_ros",
                executable="player",
                name="player",
                output="screen",
                condition=IfCondition(has_bag),
                parameters=[
                    {
                        "bag": typed("bag", str),
                        "bag_topic": typed("bag_topic", str),
                        "rate": typed("rate", float),
                        "camera_info": typed("calibration", str),
                        "restamp": False,
                    }
                ],
                remappings=topics,
            ),
            Node(
                package="rviz2",
                executable="rviz2",
                name="rviz",
                condition=IfCondition(LaunchConfiguration("rviz")),
                arguments=[
                    "-d",
                    PathJoinSubstitution([FindPackageShare("crowd4d_ros"), "config", "crowd4d.rviz"]),
                ],
            ),
        ]
    )
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    parameters = DeclareLaunchArgument(
        "parameters", default_value=PARAMETERS, description="a parameter file for all nodes"
    )
    return LaunchDescription([*declared, parameters, nodes])
