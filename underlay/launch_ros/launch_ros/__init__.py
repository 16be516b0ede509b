"""A stand-in for ROS 2's `launch_ros`: as much of it as crowd4d_ros' launch files use."""
