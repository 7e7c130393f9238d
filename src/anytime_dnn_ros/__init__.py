"""Anytime deep networks for ROS 2: an answer by the deadline, always."""

from pkgutil import extend_path

# Merges this source folder with the generated `msg` package where the two are installed apart
# (a source checkout beside an installed build).
__path__ = extend_path(__path__, __name__)

__version__ = '0.1.0'
