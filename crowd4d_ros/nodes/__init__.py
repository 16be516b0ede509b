"""ROS 2 nodes: parameters, topics, QoS, life cycle. The only code here that imports rclpy; no algorithm."""
