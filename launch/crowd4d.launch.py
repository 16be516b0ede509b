"""A camera, or a recording, to a 4D crowd:

    ros2 launch crowd4d_ros crowd4d.launch.py image:=/camera/image_raw camera_info:=/camera/camera_info

bag:=FOLDER replays a bag's images instead, nothing dropped. windows:=FOLDER optimises the CrowdWindows of an
earlier recording again, without images and without the models that look at them. out:=FOLDER records results
and a bag; with a recording as input the launch ends when they are written.
"""

from launch.actions import DeclareLaunchArgument, GroupAction, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node, PushRosNamespace
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

CONFIG = PathJoinSubstitution([FindPackageShare("crowd4d_ros"), "config", "crowd4d.yaml"])
RVIZ = PathJoinSubstitution([FindPackageShare("crowd4d_ros"), "config", "crowd4d.rviz"])
ARGUMENTS = {
    "image": ("camera/image_raw", "topic of the images; compressed ones on TOPIC/compressed are taken too"),
    "camera_info": ("camera/camera_info", "topic of their calibration"),
    "calibration": ("", "a camera_info YAML file, used instead of the topic"),
    "camera_info_timeout": ("5.0", "seconds to wait for a calibration before the focal length is estimated"),
    "namespace": ("", "namespace of all nodes and topics"),
    "bag": ("", "a rosbag2 folder whose images are replayed"),
    "bag_topic": ("", "which of the bag's topics; empty: the only one with images"),
    "windows": ("", "a rosbag2 folder whose CrowdWindows are optimised again"),
    "rate": ("0.0", "of a recording, relative to real time; 0: as fast as it can be reconstructed"),
    "reliable": ("false", "true: nothing is dropped, the source has to wait; recordings always do"),
    "first_frame": ("0", "number of the first image in the input"),
    "out": ("", "record results and a bag into this folder"),
    "record_bag": ("true", "false: results without a bag"),
    "device": ("auto", "auto, cpu or cuda"),
    "body": ("", "an SMPL file; empty: the embedded licence-free body"),
    "bodies": ("light", "light, full or none: how RViz draws people"),
    "playback": ("0.0", "show frames at this multiple of real time; 0: as they are ready, a window at once"),
    "rviz": ("false", "start RViz"),
    "parameters": (CONFIG, "a parameter file for all nodes"),
}


def generate_launch_description():
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=description)
        for name, (default, description) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=graph)])


def graph(context):
    """The nodes, for what is given."""
    given = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    recording = given["bag"] or given["windows"]
    reliable = bool(recording) or given["reliable"].lower() == "true"
    recorders = 1 if given["out"] else 0

    def node(name, **parameters):
        common = {"device": given["device"], "body": given["body"], "reliable": reliable}
        return Node(
            package="crowd4d_ros",
            executable=name,
            name=name,
            output="screen",
            parameters=[given["parameters"], {**common, **parameters}],
            remappings=[
                ("image", given["image"]),
                ("image/compressed", given["image"] + "/compressed"),
                ("camera_info", given["camera_info"]),
            ],
            on_exit=Shutdown(reason=f"the {name} has ended"),
        )

    # in a reliable graph the first message waits until everybody who is started here listens
    nodes = [
        node(
            "optimizer",
            source="player" if given["windows"] else "initializer",
            wait_for=reliable * (1 + recorders),
        ),
        node("visualizer", bodies=given["bodies"], playback=float(given["playback"])),
    ]
    if given["windows"]:
        nodes.append(
            node(
                "player",
                windows=given["windows"],
                rate=float(given["rate"]),
                follow="optimizer",
                in_flight=2,
                wait_for=1 + recorders,
            )
        )
    else:
        nodes.append(
            node(
                "initializer",
                camera_info=given["calibration"],
                camera_info_timeout=float(given["camera_info_timeout"]),
                first_frame=int(given["first_frame"]),
                wait_for=reliable * (1 + recorders),
            )
        )
    if given["bag"]:
        nodes.append(
            node(
                "player",
                bag=given["bag"],
                bag_topic=given["bag_topic"],
                camera_info=given["calibration"],
                rate=float(given["rate"]),
                restamp=False,
                wait_for=2,
            )
        )
    if given["out"]:
        nodes.append(node("recorder", out=given["out"], bag=given["record_bag"].lower() == "true"))
    if given["rviz"].lower() == "true":
        nodes.append(Node(package="rviz2", executable="rviz2", name="rviz", arguments=["-d", RVIZ]))
    if given["namespace"]:
        nodes.insert(0, PushRosNamespace(given["namespace"]))
    return [GroupAction(nodes)]
