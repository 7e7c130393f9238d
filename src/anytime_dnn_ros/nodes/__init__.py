"""The ROS 2 edge: nodes, their parameters, conversions and diagnostics."""
