"""A stand-in for the command `ros2 launch`, and for nothing else of ros2."""
